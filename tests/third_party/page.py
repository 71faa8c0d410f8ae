"""The table in docs/third_party.md, from the rows: ``python -m tests.third_party.page``."""

from __future__ import annotations

import re
from pathlib import Path

from .rows import ROWS

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "third_party.md"
HEAD = "| package | version | model | modes | orders | agrees to |\n|---|---|---|---|---|---|\n"
TABLE = re.compile(re.escape(HEAD) + r"(\|.*\n)*")


def distribution(package: str) -> str:
    """What pip calls the package."""
    return package.lower().replace("_", "-")


def pinned() -> dict[str, str]:
    """The versions in constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def table() -> str:
    versions = pinned()
    lines = []
    for row in ROWS:
        name = distribution(row.package)
        cells = (
            name,
            versions[name],
            row.model,
            ", ".join(row.modes()),
            f"1 to {row.order}",
            f"{row.tolerance:.0e}".replace("e-0", "e-"),
        )
        lines.append(f"| {' | '.join(cells)} |\n")
    return HEAD + "".join(lines)


if __name__ == "__main__":
    PAGE.write_text(TABLE.sub(lambda _: table(), PAGE.read_text()))
