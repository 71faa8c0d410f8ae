"""Every script in ``examples/`` runs to its end, asserts included, and writes its picture."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.processes import ROOT, Script

# what begins with an underscore is shared by the scripts
SCRIPTS = sorted(p for p in (ROOT / "examples").glob("*.py") if not p.stem.startswith("_"))


def test_there_are_examples() -> None:
    assert SCRIPTS


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_example(script: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    Script(script, "--quick", "--threads", 1, "--out", out, log=tmp_path / "log").finish()
    # not the name of the committed picture, which shows the default setting
    assert [p.name for p in out.iterdir()] == [f"{script.stem}-quick.png"]
    assert next(out.iterdir()).stat().st_size > 10_000


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_the_picture_is_committed(script: Path) -> None:
    assert script.with_suffix(".png").stat().st_size > 10_000
