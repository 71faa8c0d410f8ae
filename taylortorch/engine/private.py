"""engine.private."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

_F = TypeVar("_F", bound=Callable[..., Any])


def untraced(function: _F) -> _F:
    """Keep Dynamo from compiling this function, or what it calls, as a piece of its own."""
    dynamo = torch._C._dynamo.eval_frame  # type: ignore[attr-defined]
    skip = dynamo._FrameExecStrategy(dynamo._FrameAction.SKIP, dynamo._FrameAction.SKIP)
    dynamo.set_code_exec_strategy(function.__code__, skip)
    return function


def constant_in_traces(function: _F) -> _F:
    """Have Dynamo call this function while it traces, and take its result for a constant."""
    # what torch.compiler.assume_constant_result does; that imports all of Dynamo first, which
    # takes longer than the rest of torch
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function
