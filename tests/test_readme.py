"""The Python blocks of the README and the pages run, and print what they say."""

import doctest
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page):
    return BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))


PAGES = [page for page in ["README.md", "docs/numerics.md", "docs/scoring.md", "docs/topk.md"] if blocks(page)]


def test_the_readme_has_examples():
    assert PAGES[0] == "README.md"


@pytest.mark.parametrize("page", PAGES)
def test_examples_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks(page):
        if ">>> " not in block:
            exec(compile(block, page, "exec"), names)
            continue
        examples = doctest.DocTestParser().get_doctest(block, names, page, page, 0)
        outcome = doctest.DocTestRunner(optionflags=doctest.FAIL_FAST).run(examples, clear_globs=False)
        assert outcome.attempted > 0
        assert outcome.failed == 0
        names = examples.globs
