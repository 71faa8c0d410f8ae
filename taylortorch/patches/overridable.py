"""patches.overridable."""

from __future__ import annotations

import types

import torch

from ..engine.registry import RULES


def declare_overridable() -> None:
    """Add the functions that have a rule to torch's list of overridable ones."""
    table = torch.overrides.get_overridable_functions()
    known = {function for functions in table.values() for function in functions}
    kinds = (types.FunctionType, types.BuiltinFunctionType)
    table[torch] += [f for f in RULES if isinstance(f, kinds) and f not in known]
