"""``python -m kullback.scoring`` is the same as the command ``kullback``."""

from .cli import main

if __name__ == "__main__":
    main()
