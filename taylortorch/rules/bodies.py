"""torch's own Python bodies (``torch.nn.functional``), rebuilt to run on TaylorTensors.

They would hand the call back to ``__torch_function__``; rebuilt, they go on to what they call.
"""

from __future__ import annotations

import sys
import types
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F


def _shadow_of(module: types.ModuleType) -> types.ModuleType:
    """A copy of a module whose functions never ask whether an argument has a torch function.

    It is registered in ``sys.modules`` because Dynamo looks globals up by module name.
    """
    shadow = types.ModuleType(f"taylortorch.rules._bodies_of_{module.__name__.replace('.', '_')}")
    for name, value in vars(module).items():
        if not name.startswith("__") or name == "__builtins__":
            setattr(shadow, name, value)
    asked = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")
    vars(shadow).update(dict.fromkeys(asked, _never))
    vars(shadow).update(_TRACEABLE)
    sys.modules[shadow.__name__] = shadow
    return shadow


def _never(*arguments: Any) -> bool:
    return False


def _check_key_padding_mask(mask: torch.Tensor, keys: int, batch: int) -> None:
    if tuple(mask.shape) != (batch, keys):
        raise AssertionError(
            f"Expected key_padding_mask of shape {(batch, keys)}, but got {tuple(mask.shape)}"
        )


def _list_with_default(sizes: Any, defaults: Sequence[int]) -> Any:
    if isinstance(sizes, (int, torch.SymInt)):
        return sizes
    if len(defaults) <= len(sizes):
        raise ValueError(f"Input dimension should be at least {len(sizes) + 1}")
    last = defaults[-len(sizes) :]
    return [d if n is None else n for n, d in zip(sizes, last, strict=False)]


class _Warnings:
    """The module ``warnings``, silent in compiled code."""

    @staticmethod
    def warn(message: str, category: type[Warning] | None = None, stacklevel: int = 1) -> None:
        if not torch.compiler.is_compiling():
            warnings.warn(message, category, stacklevel + 1)


# what Dynamo (torch 2.13) does not trace of what torch's bodies use
_TRACEABLE = {
    "_check_key_padding_mask": _check_key_padding_mask,
    "_list_with_default": _list_with_default,
    "warnings": _Warnings,
}


_FUNCTIONAL = _shadow_of(F)


def own_body(function: Any) -> Callable:
    """The Python body of a function of ``torch.nn.functional``, going on to what it calls."""
    body = types.FunctionType(
        function.__code__,
        vars(_FUNCTIONAL),
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    body.__kwdefaults__ = function.__kwdefaults__
    return body
