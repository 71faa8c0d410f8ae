"""The site builds, whole and without a warning, and the notebooks on it run.

Needs the extra ``docs``: make docs.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.docs

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return folder


def test_every_page_is_there(site):
    pages = (ROOT / "docs").rglob("*.md")
    missing = [
        page
        for page in pages
        if not (site / page.relative_to(ROOT / "docs")).with_suffix(".html").exists()
    ]
    assert not missing
    for notebook in NOTEBOOKS:
        assert (site / "notebooks" / notebook.name).with_suffix(".html").exists()


def test_nothing_is_fetched_from_elsewhere(site):
    """The site can be opened from disk, without a network."""
    outside = re.compile(r'<(?:script|link|img|iframe)\b[^>]*?(?:src|href)="https?://[^"]*"')
    for page in site.rglob("*.html"):
        assert not outside.findall(page.read_text("utf-8")), page
    assert (site / "assets" / "mathjax" / "tex-svg.js").stat().st_size > 1_000_000


def test_formulas_links_and_docstrings_are_made(site):
    page = (site / "theory" / "collapsing.html").read_text("utf-8")
    assert 'class="arithmatex"' in page
    assert "$$" not in page
    page = (site / "index.html").read_text("utf-8")
    assert 'href="examples/stack_overflow.html"' in page  # the source came along
    assert (site / "examples" / "stack_overflow.html").exists()
    page = (site / "api" / "func.html").read_text("utf-8")
    assert 'id="taylortorch.func.laplacian"' in page
    assert "tensor([18., 72.])" in page


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks(notebook):
    """A cell that raises fails; what a notebook shows is asserted in its cells."""
    # not above: only the extra has what it needs
    import make_notebooks
    import nbformat

    stored = nbformat.read(notebook, as_version=4)
    executed = make_notebooks.executed(notebook)
    for before, after in zip(stored.cells, executed.cells, strict=True):
        if before.cell_type == "code":
            # the outputs on the page are those of these cells
            assert bool(before.outputs) == bool(after.outputs), before.source


def test_notebooks_are_there():
    assert [path.stem for path in NOTEBOOKS] == ["laplacian", "pinn", "stack_overflow"]
