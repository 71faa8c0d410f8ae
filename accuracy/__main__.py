"""``python -m accuracy``: measure every function, and write the page and its picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .errors import rows
from .high_order import Long, long_errors
from .infinity import at_infinity
from .page import page
from .picture import draw_errors

DOCS = Path(__file__).parent.parent / "docs"


def main() -> None:
    """Print each line of the page as soon as it is measured; write the files at the end."""
    found: dict[str, tuple[Sequence[float], Sequence[float]]] = {}

    def measured(case: Long) -> tuple[Sequence[float], Sequence[float]]:
        found[case.name] = long_errors(case)
        return found[case.name]

    lines = []
    for line in page(rows, measured, at_infinity()):
        print(line, flush=True)
        lines.append(line)
    draw_errors(found, DOCS / "accuracy.png")
    (DOCS / "accuracy.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
