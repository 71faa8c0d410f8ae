"""Write docs/ops.md, the table of supported functions, from the rows of the rules.

Also drop from tests/not_yet.txt what has got a rule.
"""

from __future__ import annotations

from pathlib import Path

from torch.overrides import resolve_name

import taylortorch  # noqa: F401
from taylortorch.registry import REFUSED, ROWS, RULES, name_of

HEAD = """# Supported functions

Made by `make ops` from the tables in `taylortorch/rules/`; `taylortorch.supported()` gives the
names at run time. Every row is tested, at orders 1, 2, 3 and 5, against reverse mode over reverse
mode in float64 by `tests/test_rules.py`, in each form listed. What a kind is:
`taylortorch/kinds.py`.

Not listed: no rule yet. Calling such a function raises `UnsupportedFunction`.
"""


def table() -> str:
    """The whole page."""
    lines = [HEAD]
    kinds: dict[str, list[str]] = {}
    for rule in ROWS:
        forms = [name_of(f) for f in (*rule.functions, *rule.in_place)]
        says = rule.says.replace("|", "\\|")
        row = f"| {', '.join(f'`{form}`' for form in dict.fromkeys(forms))} | {says} |"
        kinds.setdefault(rule.kind, []).append(row)
    for kind, rows in sorted(kinds.items()):
        lines += [f"## {kind}", "", "| functions | rule |", "|---|---|", *sorted(rows), ""]
    lines += ["## Refused", "", "| function | reason |", "|---|---|"]
    lines += sorted(f"| `{name_of(f)}` | {reason} |" for f, reason in REFUSED.items())
    return "\n".join(lines) + "\n"


def still_missing(names: list[str]) -> list[str]:
    """The functions of tests/not_yet.txt that have got neither a rule nor a refusal since."""
    served = {name_of(f) for f in (*RULES, *REFUSED)} | {str(resolve_name(f)) for f in RULES}
    return [name for name in names if name not in served]


if __name__ == "__main__":
    here = Path(__file__).parent
    (here / "ops.md").write_text(table())
    not_yet = here.parent / "tests" / "not_yet.txt"
    missing = still_missing(not_yet.read_text().split())
    not_yet.write_text("\n".join(missing) + "\n")
    print(f"docs/ops.md: {len(ROWS)} rows; tests/not_yet.txt: {len(missing)} functions")
