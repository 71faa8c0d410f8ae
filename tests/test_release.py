"""The wheel and the sdist, built, installed in a clean environment and used from there.

``make release`` runs the tests marked ``release``; they install torch anew, from the index that pip
is configured with.
"""

from __future__ import annotations

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import venv
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import taylortorch as tt
from taylortorch.engine.private import constant_in_traces
from taylortorch.patches.probes import TESTED, warn_of_newer

ROOT = Path(__file__).parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


# --- one version ----------------------------------------------------------------------------------


def test_the_citation_has_the_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text()
    (version,) = re.findall(r'^version: "?([^"\s]+)"?$', citation, re.MULTILINE)
    assert version == tt.__version__


def test_the_changelog_starts_with_the_version_and_its_date() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## \[(.+?)\](?: - (\S+))?$", changelog, re.MULTILINE)
    released = [heading for heading in headings if heading[0] != "Unreleased"]
    (date,) = re.findall(
        r"^date-released: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE
    )
    assert released[0] == (tt.__version__, date)


def test_the_version_is_written_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"]["path"] == "taylortorch/__init__.py"
    written = [
        path
        for path in (ROOT / "taylortorch").rglob("*.py")
        if f'"{tt.__version__}"' in path.read_text()
    ]
    assert written == [ROOT / "taylortorch" / "__init__.py"]


def test_the_range_of_torch_is_the_tested_one() -> None:
    files = [CONSTRAINTS, *(ROOT / "requirements").glob("torch-*.txt")]
    pinned = {v for f in files for v in re.findall(r"^torch==(\S+)$", f.read_text(), re.MULTILINE)}
    assert pinned == set(TESTED)
    releases = sorted(tuple(map(int, version.split(".")[:2])) for version in TESTED)
    (major, oldest), (_, newest) = releases[0], releases[-1]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"torch>={major}.{oldest},<{major}.{newest + 1}" in project["dependencies"]


def test_a_newer_torch_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.99.0")
    with pytest.warns(UserWarning, match=r"not with the newer 2\.99\.0: `python -m taylortorch`"):
        warn_of_newer()
    for version in (*TESTED, "2.11.0", "2.13.0+cpu"):
        monkeypatch.setattr(torch, "__version__", version)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warn_of_newer()


# --- what an import imports -----------------------------------------------------------------------


def test_an_import_brings_in_nothing_heavy() -> None:
    """Only what torch imports by itself: its compiler alone takes longer than all of this."""
    code = """
import sys, torch
before = set(sys.modules)
import taylortorch
print(*sorted(set(sys.modules) - before))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    brought = [name for name in done.stdout.split() if name.split(".")[0] != "taylortorch"]
    foreign = {name.split(".")[0] for name in brought} - sys.stdlib_module_names
    assert not foreign, f"import taylortorch imports {sorted(brought)}"
    assert "taylortorch.rules.linalg" in done.stdout.split()


def test_what_a_trace_takes_for_a_constant() -> None:
    """``constant_in_traces`` is torch's own decorator without the import of the compiler."""

    def here() -> None: ...

    def there() -> None: ...

    constant_in_traces(here)
    torch.compiler.assume_constant_result(there)
    assert vars(here) == vars(there) != {}


# --- what is built --------------------------------------------------------------------------------


class Environment:
    """A virtual environment that sees nothing of this one."""

    def __init__(self, place: Path) -> None:
        venv.create(place, with_pip=True, clear=True)
        self.place = place
        scripts = "Scripts" if os.name == "nt" else "bin"
        self.python = place / scripts / "python"
        # outside of the source tree, which Python would import from
        self.outside = place / "outside"
        self.outside.mkdir()

    def run(self, *arguments: str | Path, cwd: Path | None = None) -> str:
        """Run its Python; the output, or a failure of the test that shows it."""
        hidden = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
        done = subprocess.run(
            [self.python, *arguments],
            cwd=cwd or self.outside,
            env={name: value for name, value in os.environ.items() if name not in hidden},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, f"{' '.join(map(str, arguments))}\n{done.stdout[-8000:]}"
        return done.stdout

    def install(self, *what: str | Path) -> None:
        self.run("-m", "pip", "install", "--quiet", "-c", CONSTRAINTS, *what)


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    # pytest keeps the directories of its last three runs, and torch is large
    with tempfile.TemporaryDirectory() as place:
        yield Path(place).resolve()


@pytest.fixture(scope="module")
def built(scratch: Path) -> tuple[Path, Path]:
    """The wheel, built from the sdist; the sdist."""
    tools = Environment(scratch / "tools")
    tools.install("build")
    tools.run("-m", "build", "--outdir", scratch / "dist", ROOT)
    (wheel,) = (scratch / "dist").glob("*.whl")
    (sdist,) = (scratch / "dist").glob("*.tar.gz")
    return wheel, sdist


@pytest.fixture(scope="module")
def unpacked(built: tuple[Path, Path], scratch: Path) -> Path:
    """The sdist's tree."""
    with tarfile.open(built[1]) as archive:
        archive.extractall(scratch / "unpacked", filter="data")
    (tree,) = (scratch / "unpacked").iterdir()
    return tree


@pytest.fixture(scope="module")
def clean(built: tuple[Path, Path], scratch: Path) -> Environment:
    """An environment with the wheel and what it depends on."""
    environment = Environment(scratch / "clean")
    environment.install("torch")
    environment.install(built[0])
    return environment


@pytest.mark.release
def test_the_wheel_is_the_package(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[0]) as archive:
        names = set(archive.namelist())
        info = f"taylortorch-{tt.__version__}.dist-info"
        metadata = email.message_from_bytes(archive.read(f"{info}/METADATA"))
    package = {
        str(path.relative_to(ROOT).as_posix())
        for path in (ROOT / "taylortorch").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "taylortorch/py.typed" in package
    assert {name for name in names if not name.startswith(info)} == package
    assert f"{info}/licenses/LICENSE" in names
    assert metadata["Version"] == tt.__version__
    assert metadata["License-Expression"] == "MIT"
    assert metadata.get_payload().startswith("# taylortorch")


@pytest.mark.release
def test_it_works_where_it_is_installed(clean: Environment) -> None:
    where = clean.run("-c", "import taylortorch; print(taylortorch.__file__)")
    assert Path(where.strip()).is_relative_to(clean.place)
    said = clean.run("-m", "taylortorch")
    assert f"taylortorch {tt.__version__}" in said
    assert " 0 failed, 0 skipped" in said


@pytest.mark.release
def test_what_it_installs(clean: Environment) -> None:
    """What the wheel asks for is there, and enough for all of the package but its integrations."""
    assert "No broken requirements" in clean.run("-m", "pip", "check")
    package = ROOT / "taylortorch"
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted(package.rglob("*.py"))
        if not path.is_relative_to(package / "integrations")
    ]
    assert "taylortorch.func.stochastic" in names
    clean.run("-c", f"import {', '.join(names)}")


@pytest.mark.release
def test_the_readme(clean: Environment) -> None:
    blocks = BLOCK.findall((ROOT / "README.md").read_text())
    assert len(blocks) > 5
    script = clean.outside / "readme.py"
    script.write_text("\n".join(blocks))
    clean.run(script)


@pytest.mark.release
def test_types_are_seen_by_users(clean: Environment) -> None:
    clean.install("mypy")
    code = clean.outside / "public_api.py"
    shutil.copy(ROOT / "tests" / "typing" / "public_api.py", code)
    clean.run("-m", "mypy", "--strict", "--config-file=", f"--cache-dir={os.devnull}", code)


@pytest.mark.release
def test_the_examples_extra(clean: Environment, built: tuple[Path, Path], unpacked: Path) -> None:
    clean.install(f"{built[0]}[examples]")
    script = unpacked / "examples" / "stack_overflow.py"
    clean.run(script, "--quick", "--threads", "1", "--out", clean.outside)
    assert (clean.outside / "stack_overflow-quick.png").stat().st_size > 10_000


@pytest.mark.release
def test_the_sdist_holds_its_tests(
    clean: Environment, built: tuple[Path, Path], unpacked: Path
) -> None:
    clean.install(f"{built[0]}[test]")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    names = [name for name in tracked.stdout.split("\n") if name and (ROOT / name).exists()]
    missing = [name for name in names if not (unpacked / name).exists()]
    assert not missing
    # all of them are found and imported; some that read other files than their own are run
    clean.run("-m", "pytest", "--collect-only", cwd=unpacked)
    reading = ["completeness", "layering", "ops_page", "docs", "release"]
    clean.run(
        *("-m", "pytest", "-k", "not python_blocks and not docstrings"),
        *(f"tests/test_{name}.py" for name in reading),
        cwd=unpacked,
    )
