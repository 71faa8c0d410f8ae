"""Everything the documentation shows runs, and every file it points to is there."""

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
import sys
import textwrap
import types
from pathlib import Path

import pytest
import torch

import taylortorch
from taylortorch.patches import CHANGES

from .test_layering import MODULES as FILES
from .test_layering import TREES, WINGS, is_private

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


# --- what is read and changed of torch ------------------------------------------------------------

ROW = re.compile(r"^\| (.+?) \|$", re.M)


def rows(page, header):
    """The cells of the table with this header."""
    text = (ROOT / "docs" / page).read_text("utf-8")
    table = text.split(f"| {' | '.join(header)} |\n", 1)[1].split("\n\n", 1)[0]
    found = [re.split(r" ?\| ?", row) for row in ROW.findall(table)]
    return [cells for cells in found if set(cells[0]) != {"-"}]


def test_the_page_lists_what_is_changed_in_torch():
    expected = []
    for change in CHANGES:
        when = f"`{change.when}`" if change.when else "at once"
        when += ", where there is one" if change.optional else ""
        expected.append([f"`{change.target}`", change.why, when])
    assert rows("torch.md", ["changed", "why", "when"]) == expected


def test_the_page_lists_what_is_read_of_torch():
    read = set()
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "private":
                if isinstance(node.args[0], ast.Constant):
                    read.add(node.args[0].value)
            elif module == "engine.private" and isinstance(node, ast.Attribute):
                read |= {node.attr} if is_private(node.attr) else set()
    listed = [cells[0].strip("`") for cells in rows("torch.md", ["name", "what for"])]
    assert len(listed) == len(set(listed))
    assert set(listed) == read


# --- the tour -------------------------------------------------------------------------------------

PACKAGE = Path(taylortorch.__file__).parent
TOUR = (ROOT / "docs/tour.md").read_text("utf-8")


def calls(function):
    """The package's own Python frames, in order: how deep they are, and what runs there."""
    found, stack = [], []

    def note(frame, event, _):
        if event == "call":
            stack.append(Path(frame.f_code.co_filename).is_relative_to(PACKAGE))
            if stack[-1]:
                found.append((sum(stack) - 1, frame.f_code))
        elif event == "return" and stack:
            stack.pop()

    function()  # what is kept from the first call on is there
    before = sys.getprofile()
    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(before)
    return found


def trip(function):
    return [
        (depth, re.sub(r"<locals>\.|[<>]", "", code.co_qualname), _file(code))
        for depth, code in calls(function)
        # a frame of its own until Python 3.12
        if not code.co_name.endswith(("comp>", "genexpr>"))
    ]


def _file(code):
    return Path(code.co_filename).relative_to(PACKAGE).as_posix()


def test_the_tour_has_the_trips_as_they_are():
    x = taylortorch.TaylorTensor(torch.rand(5, 3), order=2)
    weight, bias = torch.rand(8, 3), torch.rand(8)
    linear = torch.nn.functional.linear
    shown = []
    for block in BLOCK.finditer(TOUR):
        if block["says"] == "text":
            lines = [(line, line.split()) for line in block["code"].splitlines()]
            shown.append([((len(t) - len(t.lstrip())) // 2, w[0], w[1]) for t, w in lines])
    assert shown == [trip(lambda: torch.tanh(x)), trip(lambda: linear(x, weight, bias))]
    for name, taken in zip(["torch.tanh(x)", "F.linear(x, W, b)"], shown, strict=True):
        (row,) = (cells for cells in rows("tour.md", TRIPS) if cells[0] == f"`{name}`, now")
        assert int(row[1]) >= len(taken)
        assert row[2:] == [str(1 + max(d for d, *_ in taken)), str(len({f for *_, f in taken}))]


TRIPS = ["trip", "frames of the package", "nested", "files"]


def _function(code):
    """The function at the top of a module or class that this code lies in."""
    module = importlib.import_module(
        ".".join(["taylortorch", *Path(_file(code)).with_suffix("").parts])
    )
    thing = module
    for name in code.co_qualname.split(".<locals>")[0].split("."):
        thing = inspect.getattr_static(thing, name)
        thing = getattr(thing, "fget", getattr(thing, "__func__", thing))
    return thing


def _called(function):
    """The functions and classes of the package that a function calls by name."""
    spaces = function.__globals__
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))):
        if isinstance(node, ast.Call):
            called = None
            if isinstance(node.func, ast.Name):
                called = spaces.get(node.func.id)
            elif isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
                owner = spaces.get(node.func.value.id)
                if isinstance(owner, (types.ModuleType, type)):
                    called = getattr(owner, node.func.attr, None)
            if isinstance(called, (types.FunctionType, types.MethodType, type)):
                called = inspect.unwrap(getattr(called, "__func__", called))
                if called.__module__.startswith("taylortorch"):
                    yield called


def test_a_stranger_reads_a_thousand_lines():
    """All that one call runs, and all that this calls."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    one_call = calls(lambda: model(taylortorch.TaylorTensor(torch.rand(5, 3))).coeffs)
    run = {_function(code) for _, code in one_call}
    read = set()
    for thing in run.union(*map(_called, run)):
        lines, first = inspect.getsourcelines(thing)
        read |= {(inspect.getsourcefile(thing), first + n) for n in range(len(lines))}
    assert len(run) > 25
    assert 500 < len(read) <= 1000


def test_the_tour_has_the_wings_as_they_are():
    table = rows("tour.md", ["wing", "holds", "may import", "its law"])
    shown = {cells[0].strip("`/"): set(re.findall(r"`(\w+)`", cells[2])) for cells in table}
    assert shown == WINGS


def test_the_tour_knows_who_asks_whether_this_is_compiled():
    table = rows("tour.md", ["who", "what is different in a trace"])
    shown = {name for cells in table for name in re.findall(r"`([^`]+)`", cells[0])}
    asks = re.compile(r"\bis_(dynamo_)?compiling\b")
    asking = {p for p in FILES.values() if asks.search(p.read_text("utf-8"))}
    assert shown == {path.relative_to(PACKAGE).as_posix() for path in asking}


def test_the_pages_name_files_that_are_there():
    """Pages name files of the package by their place in it, or in the repository."""
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        text = BLOCK.sub("", page.read_text("utf-8"))
        for name in re.findall(r"`((?:[\w-]+/)*\w+\.py)`", text):
            folders = (PACKAGE, ROOT, ROOT / "tests", ROOT / "tests/third_party", page.parent)
            assert any((f / name).exists() for f in folders), f"{name_of(page)}: {name}"
