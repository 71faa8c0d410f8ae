"""patches.wrapped."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.parallel.distributed as data_parallel
from torch.nn.modules._functions import SyncBatchNorm
from torch.nn.parallel._functions import Gather, Scatter

from ..engine.private import untraced
from ..engine.registry import UnsupportedFunction
from ..engine.tensor import Guarded, TaylorTensor, flatten, settle, wrap
from ..engine.writing import view_of

# --- wrapped models -----------------------------------------------------------------------------


def _blocks_of(x: Any) -> list[torch.Tensor]:
    """The plain tensors that a series consists of."""
    if not isinstance(x, TaylorTensor):
        return [x]
    settle(x)
    return [part for block in x._blocks if block is not None for part in _blocks_of(block)]


def _find_tensors(tree: Any) -> Iterator[torch.Tensor]:
    """What ``DistributedDataParallel`` walks the graph from, to find the parameters in use."""
    for x in _find_tensors_of_torch(tree):
        yield from _blocks_of(x)


_find_tensors_of_torch = data_parallel._find_tensors


data_parallel._find_tensors = _find_tensors


def _reached(block: Any) -> bool:
    """Whether gradients reach a block of a series."""
    return block is not None and block.requires_grad


def _notices(function: Any) -> None:
    """Let a Function that returns its tensors as they are act on the blocks of series.

    It takes an owner, then tensors, and only notices when gradients pass.
    """
    plain = function.apply
    if hasattr(plain, "__wrapped__"):
        return

    @functools.wraps(plain)
    def apply(owner: Any, *tensors: Any) -> Any:
        if not any(isinstance(x, TaylorTensor) for x in tensors):
            return plain(owner, *tensors)
        given: list[Any] = []
        for x in tensors:
            if isinstance(x, TaylorTensor):
                settle(x)
                given += filter(_reached, x._blocks)
            else:
                given.append(x)
        passed = iter(apply(owner, *given)) if given else iter(())
        return tuple(
            _rebuilt(x, passed) if isinstance(x, TaylorTensor) else next(passed) for x in tensors
        )

    # Dynamo would trace it and lose the owner, a weak reference
    apply._torchdynamo_disable = True  # type: ignore[attr-defined]
    function.apply = staticmethod(untraced(apply))


def _rebuilt(x: TaylorTensor, passed: Iterator[torch.Tensor]) -> TaylorTensor:
    blocks = [next(passed) if _reached(block) else block for block in x._blocks]
    # a view, so that x stays the variable it may be, and follows what is written
    return view_of(x, lambda base: base.view(base.shape), wrap(blocks, x._structure, x._level))


def _refuses(function: Any, who: str, reason: str) -> None:
    """Let a Function that cannot act on series say so."""
    plain = function.apply

    @functools.wraps(plain)
    def apply(*args: Any) -> Any:
        if flatten(args, []):
            raise UnsupportedFunction(f"{who} does not take a TaylorTensor: {reason}")
        return plain(*args)

    function.apply = staticmethod(apply)


_notices(data_parallel._DDPSink)


_DATA_PARALLEL = (
    "it cuts its input up for several devices in one process; make the series inside the module "
    "from plain tensors, or use torch.nn.parallel.DistributedDataParallel, one process per device"
)


_refuses(Scatter, "torch.nn.DataParallel", _DATA_PARALLEL)


_refuses(Gather, "torch.nn.DataParallel", _DATA_PARALLEL)


_refuses(
    SyncBatchNorm,
    "torch.nn.SyncBatchNorm",
    "in training mode it takes its statistics over all processes in C++ code that knows no "
    "derivatives; use a norm that does not mix samples (LayerNorm, GroupNorm), or call .eval()",
)


_FSDP = "torch.distributed.fsdp._fully_shard._fsdp_param_group"


_requires_grad = Guarded.requires_grad.fget  # type: ignore[attr-defined]


def _asked(x: TaylorTensor) -> bool:
    # who uses fully_shard imports it, which takes a third of the time that torch does; it asks
    # this of every input before it passes the input through its Function
    if not torch.compiler.is_compiling() and _FSDP in sys.modules:
        _notices(sys.modules[_FSDP].RegisterPostBackwardFunction)
    return _requires_grad(x)


# a member of the class since the rules gave it one
Guarded.requires_grad = Guarded.requires_grad.getter(_asked)  # type: ignore[attr-defined]
