"""torch's own Python bodies (``torch.nn.functional``), rebuilt to run on TaylorTensors.

They would hand the call back to ``__torch_function__``; rebuilt, they go on to what they call.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

import torch.nn.functional as F


def _shadow_of(module: types.ModuleType) -> types.ModuleType:
    """A copy of a module whose functions never ask whether an argument has a torch function.

    It is registered in ``sys.modules`` because Dynamo looks globals up by module name.
    """
    shadow = types.ModuleType(f"taylortorch.rules._bodies_of_{module.__name__.replace('.', '_')}")
    for name, value in vars(module).items():
        if not name.startswith("__") or name == "__builtins__":
            setattr(shadow, name, value)
    for name in ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic"):
        setattr(shadow, name, _never)
    sys.modules[shadow.__name__] = shadow
    return shadow


def _never(*arguments: Any) -> bool:
    return False


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
