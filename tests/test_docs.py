"""Everything the documentation shows runs, and every file it points to is there."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest
import torch

import taylortorch

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MODULES = [
    "taylortorch",
    *(m.name for m in pkgutil.walk_packages(taylortorch.__path__, "taylortorch.")),
]

# an opening fence, what it says, the lines up to the closing fence
BLOCK = re.compile(r"^(?P<fence>`{3,})(?P<says>[^\n`]*)\n(?P<code>.*?)^(?P=fence)\s*$", re.M | re.S)
LINK = re.compile(r"\]\((?!https?://|mailto:|#)([^)#\s]+)")


@pytest.fixture(autouse=True)
def _fresh_torch():
    """A page may set torch's default dtype and seed; the next one starts from the usual ones."""
    dtype = torch.get_default_dtype()
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(dtype)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks(page):
    """The blocks of a page run in order and share their names."""
    text = page.read_text(encoding="utf-8")
    names = {"__name__": f"docs_{page.stem}"}
    for block in BLOCK.finditer(text):
        says = block["says"].strip()
        if not says.startswith("python"):
            continue
        assert says == "python", f"{page.name}: a python block must run, but says {says!r}"
        # blank lines in front, so that a traceback gives the line of the page
        above = text.count("\n", 0, block.start("code"))
        exec(compile("\n" * above + block["code"], str(page), "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links(page):
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    missing = [link for link in LINK.findall(text) if not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    failed, _ = doctest.testmod(
        importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert failed == 0


def test_docstrings_have_examples():
    """That the sweep above finds the examples, and did not stop finding them."""
    finder = doctest.DocTestFinder()
    modules = (importlib.import_module(name) for name in MODULES)
    assert any(test.examples for module in modules for test in finder.find(module))
