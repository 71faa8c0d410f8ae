"""torch's list of the functions that ask ``__torch_function__``, completed."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import torch

from ..engine.registry import RULES
from .changes import Change


def _completed(overridable: Callable[[], dict[Any, list[Any]]]) -> Callable:
    # the list is kept, and handed out, by torch
    table = overridable()
    known = {function for functions in table.values() for function in functions}
    kinds = (types.FunctionType, types.BuiltinFunctionType)
    table[torch] += [f for f in RULES if isinstance(f, kinds) and f not in known]
    return overridable


CHANGES = (
    Change(
        "torch.overrides.get_overridable_functions",
        _completed,
        "its list lacks functions that do dispatch (F.hardswish, torch.relu_), and Dynamo passes "
        "over what is not on it",
    ),
)
