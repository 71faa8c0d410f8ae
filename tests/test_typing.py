"""The annotations of the public API, seen by a type checker from a user's side."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import taylortorch as tt

from .typing.public_api import EXAMPLES

ROOT = Path(__file__).parent.parent
HERE = ROOT / "tests" / "typing"


@pytest.fixture(scope="module")
def found() -> dict[str, dict[int, list[str]]]:
    """The codes of mypy's complaints, by file and line."""
    pytest.importorskip("mypy", reason="make test installs it")
    # kept between runs, beside that of `make test`, which has other options
    cache = ROOT / ".mypy_cache" / "strict"
    options = ["--strict", "--config-file=", f"--cache-dir={cache}"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *map(str, sorted(HERE.glob("*.py")))],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    codes: dict[str, dict[int, list[str]]] = {}
    for file, line, code in re.findall(
        r"^(.*?):(\d+): error: .*\[([\w-]+)\]$", done.stdout, re.MULTILINE
    ):
        codes.setdefault(Path(file).name, {}).setdefault(int(line), []).append(code)
    assert done.returncode == 1, done.stdout + done.stderr
    return codes


def test_user_code_is_clean(found: dict[str, dict[int, list[str]]]) -> None:
    assert found.get("public_api.py", {}) == {}


def test_mistakes_are_found(found: dict[str, dict[int, list[str]]]) -> None:
    lines = [line.split("  # error: ") for line in (HERE / "mistakes.py").read_text().splitlines()]
    marked = {n: parts[1] for n, parts in enumerate(lines, 1) if len(parts) == 2}
    assert marked
    assert {n: codes[0] for n, codes in found["mistakes.py"].items()} == marked


def test_all_of_the_public_api_is_used() -> None:
    used = (HERE / "public_api.py").read_text()
    names = [name for name in tt.__all__ if not re.search(rf"\b{name}\b", used)]
    for space in (tt.func, tt.func.stochastic, tt.testing):
        names += [n for n in getattr(space, "__all__", ()) if not re.search(rf"\b{n}\b", used)]
    assert not names


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.__name__)
def test_it_runs(example: Callable[[], None]) -> None:
    example()
