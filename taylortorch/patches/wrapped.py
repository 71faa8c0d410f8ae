"""Modules that wrap models: data-parallel, fully sharded, synchronised.

``DistributedDataParallel`` and ``fully_shard`` look for the tensors that a module takes and
returns, because gradients enter and leave through these. The graph of a series hangs on its blocks;
the series itself is a leaf. So the place where ``DistributedDataParallel`` looks for used
parameters is told to look at the blocks, and the two Functions that do nothing but notice when
gradients pass are applied to the blocks. (``fully_shard`` also puts a hook on what a module
returns; ``Tensor.register_hook`` of a series has a rule of its own.)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch

from ..engine.frames import frame_of
from ..engine.private import disabled_in_traces, untraced
from ..engine.registry import UnsupportedFunction
from ..engine.tensor import TaylorTensor, flatten, settle
from ..engine.writing import view_of
from .changes import Change


def _blocks_of(x: Any) -> list[torch.Tensor]:
    """The plain tensors that a series consists of."""
    if not isinstance(x, TaylorTensor):
        return [x]
    settle(x)
    return [part for block in x._blocks if block is not None for part in _blocks_of(block)]


def _of_blocks(find: Callable) -> Callable:
    """What ``DistributedDataParallel`` walks the graph from, to find the parameters in use."""

    @functools.wraps(find)
    def find_tensors(tree: Any) -> Iterator[torch.Tensor]:
        for x in find(tree):
            yield from _blocks_of(x)

    return find_tensors


def _reached(block: Any) -> bool:
    """Whether gradients reach a block of a series."""
    return block is not None and block.requires_grad


def _on_blocks(plain: Callable) -> Any:
    """The ``apply`` of a Function that returns its tensors as they are, on the blocks of series.

    It takes an owner, then tensors, and only notices when gradients pass.
    """

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
    return staticmethod(untraced(disabled_in_traces(apply)))


def _rebuilt(x: TaylorTensor, passed: Iterator[torch.Tensor]) -> TaylorTensor:
    blocks = [next(passed) if _reached(block) else block for block in x._blocks]
    # a view, so that x stays the variable it may be, and follows what is written
    return view_of(x, lambda base: base.view(base.shape), frame_of(x).wrap(blocks))


def _refusing(who: str, reason: str) -> Callable[[Callable], Any]:
    """The ``apply`` of a Function that cannot act on series, and says so."""

    def made(plain: Callable) -> Any:
        @functools.wraps(plain)
        def apply(*args: Any) -> Any:
            if flatten(args, []):
                raise UnsupportedFunction(f"{who} does not take a TaylorTensor: {reason}")
            return plain(*args)

        return staticmethod(apply)

    return made


_data_parallel = _refusing(
    "torch.nn.DataParallel",
    "it cuts its input up for several devices in one process; make the series inside the module "
    "from plain tensors, or use torch.nn.parallel.DistributedDataParallel, one process per device",
)
_sync_batch_norm = _refusing(
    "torch.nn.SyncBatchNorm",
    "in training mode it takes its statistics over all processes in C++ code that knows no "
    "derivatives; use a norm that does not mix samples (LayerNorm, GroupNorm), or call .eval()",
)
_NOTICES = "it notices when gradients pass, which pass through the blocks of a series"
_SHARDED = "torch.distributed.fsdp._fully_shard._fsdp_param_group"

CHANGES = (
    Change(
        "torch.nn.parallel.distributed._find_tensors",
        _of_blocks,
        "the graph of a series, which says which parameters were used, hangs on its blocks",
    ),
    Change("torch.nn.parallel.distributed._DDPSink.apply", _on_blocks, _NOTICES),
    Change(f"{_SHARDED}.RegisterPostBackwardFunction.apply", _on_blocks, _NOTICES, when=_SHARDED),
    Change("torch.nn.parallel._functions.Scatter.apply", _data_parallel, "it cuts a series up"),
    Change("torch.nn.parallel._functions.Gather.apply", _data_parallel, "it cuts a series up"),
    Change(
        "torch.nn.modules._functions.SyncBatchNorm.apply",
        _sync_batch_norm,
        "its C++ code knows no derivatives",
    ),
)
