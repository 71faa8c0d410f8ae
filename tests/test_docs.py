"""Everything the documentation shows runs, and every file it points to is there."""

import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest
import torch

import taylortorch

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MODULES = [
    "taylortorch",
    *(m.name for m in pkgutil.walk_packages(taylortorch.__path__, "taylortorch.")),
]

# an opening fence, what it says, the lines up to the closing fence
BLOCK = re.compile(r"^(?P<fence>`{3,})(?P<says>[^\n`]*)\n(?P<code>.*?)^(?P=fence)\s*$", re.M | re.S)
# code of other libraries, shown to compare with: the title says on the page that nobody ran it
FOREIGN = re.compile(r'py title="[^"]+ \(not executed here\)"')
INDENTED = re.compile(r"^[ \t]+`{3,}[ \t]*py.*$", re.M)
LINK = re.compile(r"\]\((?!https?://|mailto:|#)([^)#\s]+)")


def name_of(page):
    return page.relative_to(ROOT).as_posix()


@pytest.fixture(autouse=True)
def _fresh_torch():
    """A page may set torch's default dtype and seed; the next one starts from the usual ones."""
    dtype = torch.get_default_dtype()
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(dtype)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_blocks(page):
    """The blocks of a page run in order and share their names."""
    text = page.read_text(encoding="utf-8")
    assert not INDENTED.search(text), f"{name_of(page)}: an indented block would not be run"
    names = {"__name__": f"docs_{page.stem}"}
    for block in BLOCK.finditer(text):
        says = block["says"].strip()
        if not says.lower().startswith(("py", "ipython")) or FOREIGN.fullmatch(says):
            continue
        assert says == "python", f"{name_of(page)}: a python block must run, but says {says!r}"
        # blank lines in front, so that a traceback gives the line of the page
        above = text.count("\n", 0, block.start("code"))
        exec(compile("\n" * above + block["code"], str(page), "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
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


def test_a_block_that_does_not_run_says_so():
    assert FOREIGN.fullmatch('py title="JAX (not executed here)"')
    for says in ("py", "python", 'py title="JAX"', 'python title="JAX (not executed here)"'):
        assert not FOREIGN.fullmatch(says)
    pages = [page.read_text(encoding="utf-8") for page in PAGES]
    assert sum(len(FOREIGN.findall(page)) for page in pages) >= 5


def test_the_api_pages_have_every_public_name():
    pages = "".join(page.read_text("utf-8") for page in sorted((ROOT / "docs/api").glob("*.md")))
    shown = set(re.findall(r"^::: (\S+)$", pages, re.M))
    for name in taylortorch.__all__:
        thing = getattr(taylortorch, name)
        if name != "__version__":
            module = getattr(thing, "__module__", "taylortorch")
            assert {f"taylortorch.{name}", f"{module}.{name}"} & shown, name


def test_the_api_page_has_the_signature_of_a_series():
    """It is that of ``__new__``, which the generator of the page does not show."""
    own = inspect.signature(taylortorch.TaylorTensor.__new__)
    bare = [
        p.replace(annotation=inspect.Parameter.empty) for p in list(own.parameters.values())[1:]
    ]
    shown = str(own.replace(parameters=bare, return_annotation=inspect.Signature.empty))
    assert f"tt.TaylorTensor{shown}" in (ROOT / "docs/api/series.md").read_text("utf-8")
