"""The text that is read: English prose which every CPython carries, the language reference behind ``help()``."""

TOPICS = (
    "compound",
    "context-managers",
    "exceptions",
    "objects",
    "specialnames",
    "types",
    "typesmapping",
    "typesmethods",
)
"""Topics that open with sentences, not with grammar or tables."""


def passages() -> list[str]:
    """Return the opening of each topic, without its heading and line breaks.

    The wording, and with it every number of the demo in the last digits, depends on the version of Python.
    """
    from pydoc_data.topics import topics

    return [" ".join(topics[name].split("\n\n", maxsplit=1)[1][:2000].split()) for name in TOPICS]
