"""Every script in ``examples/`` runs to its end, asserts included, and writes its picture."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# what begins with an underscore is shared by the scripts
SCRIPTS = sorted(p for p in (ROOT / "examples").glob("*.py") if not p.stem.startswith("_"))


def test_there_are_examples():
    assert SCRIPTS


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_example(script, tmp_path):
    # the tree under test, whether or not it is installed
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, str(script), "--quick", "--threads", "1", "--out", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # not the name of the committed picture, which shows the default setting
    assert [p.name for p in tmp_path.iterdir()] == [f"{script.stem}-quick.png"]
    assert next(tmp_path.iterdir()).stat().st_size > 10_000


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_the_picture_is_committed(script):
    assert script.with_suffix(".png").stat().st_size > 10_000
