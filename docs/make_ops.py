"""Write docs/ops.md, the table of supported functions, from the rows of the rules.

Also drop from tests/not_yet.txt what has got a rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch.overrides import resolve_name
from torch.testing._internal.common_methods_invocations import op_db

import taylortorch  # noqa: F401
from taylortorch.engine.registry import (
    REFUSED,
    REFUSED_BY_OTHERS,
    ROWS,
    ROWS_OF_OTHERS,
    RULES,
    Rule,
    name_of,
)

ROOT = Path(__file__).parent.parent
VERDICTS = ROOT / "tests" / "op_db.txt"
NOT_YET = ROOT / "tests" / "not_yet.txt"
FORMS = ("function", "method", "in place")

Entries = dict[Any, list[tuple[str, int]]]
"""Of each function the entries of the operator database, and which of their forms it is."""

HEAD = """# Supported functions

Made by `make ops` from the tables in `taylortorch/rules/`; `taylortorch.supported()` gives the
names at run time.

* **order**: the highest order at which the function is right. *any*; *any, zero*: piecewise
  constant, every derivative is zero; *none*: it depends on the value alone and gives no series;
  *0 only*: it raises above order 0, where it would lose the coefficients.
* **tested at**: the orders at which `tests/test_rules.py` compares each function and method listed
  with an oracle in float64 (7 in the slow sweep), for every choice of which tensors are series;
  `tests/test_laws.py` compares the forms in place with them. *by hand*: in the other tests, because
  a float64 sample cannot call it, or there is no derivative to compare.
* **op_db**: the verdict on the function's entries in torch's own operator database, from
  `tests/op_db.txt`, where each form is compared at orders 1, 2 and 3 with reverse mode over reverse
  mode and with differences of torch's forward pass. One word: the same in every form that torch
  has; otherwise the forms that differ are named. *-*: the database has no entry for it.

Made with the torch that `constraints.txt` pins. Of functions that not all tested versions of torch
have the column **rule** says *since* which one, or *until* which one, no longer in that.

Not listed: no rule yet. Calling such a function raises `UnsupportedFunction`.
"""
VERDICTS_MEAN = """\
The entries of torch's operator database, in each form that torch has. *right*: the derivatives are
those of the oracles; *partly*: so, and some of the samples raise `UnsupportedFunction`; *refused*:
all of them do; *value*: the result has no derivative (integers, booleans), and is torch's;
*untested*: most of the samples have no derivative to compare with."""
MEANING = {
    "by hand": "an evaluator of its own, built from the recurrences",
    "composite": "ordinary torch code, run on series",
    "constant": "piecewise constant",
    "equation": "the coefficients solve an equation, degree by degree",
    "linear": "linear in its tensor",
    "multilinear": "linear in each of its tensors",
    "ode": "y' = (a + b y + c y^2) x'",
    "pair": "two functions that are each other's derivative",
    "piecewise": "linear on each piece; the value picks the piece",
    "reshape": "the same entries in another shape",
    "selection": "the value picks the entries",
    "slope": "y' = sum of g_i(x) x_i'",
    "value": "depends on the value only",
}


def page() -> str:
    """The whole page."""
    verdicts = recorded()
    entries = entries_by_function(verdicts)
    lines = [HEAD, *at_a_glance(verdicts)]
    kinds: dict[str, list[str]] = {}
    for rule in (*ROWS, *ROWS_OF_OTHERS):
        kinds.setdefault(rule.kind, []).append(row(rule, verdicts, entries))
    for kind, rows in sorted(kinds.items()):
        lines += [f"## {kind}", "", f"{sentence(MEANING[kind])}", ""]
        lines += table(("functions", "rule", "order", "tested at", "op_db"), sorted(rows))
    lines += ["## Refused", "", "What no rule will serve as it is, and why.", ""]
    reasons: dict[str, list[str]] = {}
    for function, reason in REFUSED.items():
        reasons.setdefault(reason, []).append(name_of(function))
    for name, reason in REFUSED_BY_OTHERS.items():
        reasons.setdefault(reason, []).append(written_out(name))
    refused = [cells(names(sorted(found)), reason) for reason, found in reasons.items()]
    lines += table(("functions", "reason"), sorted(refused))
    return "\n".join(lines).rstrip() + "\n"


def at_a_glance(verdicts: dict[str, list[str]]) -> list[str]:
    """How many functions there are of each kind, and how many entries of each verdict."""
    rows = Counter(rule.kind for rule in ROWS)
    callables = Counter()
    for rule in ROWS:
        callables[rule.kind] += len(shown((*rule.functions, *rule.in_place)))
    lines = ["## At a glance", ""]
    lines += table(
        ("kind", "what it means", "rules", "callables"),
        [cells(kind, MEANING[kind], rows[kind], callables[kind]) for kind in sorted(rows)]
        + [cells("all", "", rows.total(), callables.total())],
    )
    counts = [Counter(found[n] for found in verdicts.values()) for n in range(len(FORMS))]
    found = sorted(set().union(*counts) - {"-"}, key=lambda v: (-counts[0][v], v))
    lines += [VERDICTS_MEAN, ""]
    lines += table(
        ("verdict", *FORMS), [cells(v, *(counts[n][v] for n in range(len(FORMS)))) for v in found]
    )
    return lines


def row(rule: Rule, verdicts: dict[str, list[str]], entries: Entries) -> str:
    """The line of a rule."""
    functions = (*rule.functions, *rule.in_place)
    mine = dict.fromkeys(found for f in functions for found in entries.get(f, ()))
    order, tested = "any", "1 2 3 5 7" if rule.samples else "by hand"
    if rule.kind == "constant":
        order, tested = "any, zero", "by hand"
    if rule.kind == "value":
        order, tested = "0 only" if "order 0" in rule.says else "none", "by hand"
    forms = names(name_of(f) for f in shown(functions))
    if not functions:
        forms = names(map(written_out, rule.name.split()))
    return cells(forms, rule.says + versions(rule), order, tested, of_database(mine, verdicts))


def versions(rule: Rule) -> str:
    """Which versions of torch have the functions, where not all do."""
    since = f", since torch {rule.since}" if rule.since else ""
    return since + (f", until torch {rule.until}" if rule.until else "")


def written_out(name: str) -> str:
    """The name in a row of a function that this torch lacks, as a user writes it."""
    return f"torch.Tensor{name}" if name.startswith(".") else f"torch.{name}"


def of_database(mine: Iterable[tuple[str, int]], verdicts: dict[str, list[str]]) -> str:
    """The verdicts on these entries: one word where they agree, else the forms that differ."""
    found: dict[str, list[str]] = {}
    for entry, n in mine:
        verdict = verdicts[entry][n]
        if verdict != "-":
            found.setdefault(verdict, []).append(f"{entry} {FORMS[n]}")
    if len(found) > 1:
        common = max(found, key=lambda verdict: len(found[verdict]))
        others = (f"{v}: {', '.join(where)}" for v, where in found.items() if v != common)
        return f"{common}; {'; '.join(others)}"
    return next(iter(found), "-")


def recorded() -> dict[str, list[str]]:
    """The verdicts of tests/op_db.txt: of each entry, by form."""
    lines = [line for line in VERDICTS.read_text().splitlines() if line[:1] != "#"]
    return {entry: forms for entry, *forms in map(str.split, lines)}


def entries_by_function(verdicts: dict[str, list[str]]) -> Entries:
    """The entries of the operator database that each function is a form of."""
    found: Entries = {}
    for op in op_db:
        if op.formatted_name in verdicts:
            callables = [(op.op, 0), (op.method_variant, 1), (op.inplace_variant, 2)]
            for name in (op.name, *(alias.name for alias in op.aliases)):
                callables += [(at(torch, name), 0), (at(torch.Tensor, name), 1)]
                callables += [(at(space, f"{name}_"), 2) for space in (torch, torch.Tensor)]
            for function, n in callables:
                if function is not None:
                    found.setdefault(function, []).append((op.formatted_name, n))
    return found


def at(space: Any, path: str) -> Any:
    """What a dotted path below a module or a class stands for, or None."""
    for part in path.split("."):
        space = getattr(space, part, None)
    return getattr(space, "__get__", None) if isinstance(space, property) else space


def shown(functions: Iterable[Any]) -> list[Any]:
    """The functions without the second objects that torch keeps of some of them."""
    functions = list(dict.fromkeys(functions))
    known = {name_of(f) for f in functions}
    return [
        f for f in functions if public(name_of(f)) == name_of(f) or public(name_of(f)) not in known
    ]


def public(name: str) -> str:
    return name.replace("torch._C._VariableFunctions.", "torch.").replace("torch._VF.", "torch.")


def names(functions: Iterable[str]) -> str:
    short = (name.replace("torch.Tensor.", "Tensor.") for name in functions)
    return ", ".join(f"`{name}`" for name in dict.fromkeys(short))


def cells(*texts: Any) -> str:
    return f"| {' | '.join(str(text).replace('|', chr(92) + '|') for text in texts)} |"


def table(head: tuple[str, ...], rows: list[str]) -> list[str]:
    return [cells(*head), "|" + "---|" * len(head), *rows, ""]


def sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def still_missing(names: list[str]) -> list[str]:
    """The functions of tests/not_yet.txt that have got neither a rule nor a refusal since."""
    served = {name_of(f) for f in (*RULES, *REFUSED)} | {str(resolve_name(f)) for f in RULES}
    return [name for name in names if name not in served]


if __name__ == "__main__":
    (ROOT / "docs" / "ops.md").write_text(page())
    missing = still_missing(NOT_YET.read_text().split())
    NOT_YET.write_text("\n".join(missing) + "\n")
    print(f"docs/ops.md: {len(ROWS)} rows; tests/not_yet.txt: {len(missing)} functions")
