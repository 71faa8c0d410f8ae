"""The blocks of docs/integrations.md that need a host run here; all others run in the suite."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "integrations.md"
BLOCK = re.compile(r'^```\{\.py title="runs where (\w+) is installed"\}\n(.*?)^```$', re.M | re.S)
BLOCKS = BLOCK.findall(PAGE.read_text(encoding="utf-8"))


@pytest.mark.integrations
@pytest.mark.parametrize(("host", "code"), BLOCKS, ids=[host for host, _ in BLOCKS])
def test_blocks(host: str, code: str) -> None:
    exec(compile(code, str(PAGE), "exec"), {"__name__": f"docs_{host}"})


def test_every_host_is_shown() -> None:
    assert [host for host, _ in BLOCKS] == ["DeepXDE", "neurodiffeq", "PINA", "Lightning"]
