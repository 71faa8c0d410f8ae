r"""More than one process: what ``torch.distributed`` has to know of series, and split directions.

**Wrapped models.** ``DistributedDataParallel`` and ``fully_shard`` look for the tensors that a
module takes and returns, because gradients enter and leave through these. The graph of a series
hangs on its blocks; the series itself is a leaf. So the place where ``DistributedDataParallel``
looks for used parameters is told to look at the blocks, and the two ``autograd.Function`` s that
do nothing but notice when gradients pass are applied to the blocks. (``fully_shard`` also puts a
hook on what a module returns; ``Tensor.register_hook`` of a series has a rule of its own.) With
these a wrapped model takes and returns series, and its gradients are those of one process.

**Directions.** A second-order operator ``sum_r s_r^T H s_r`` is a sum over directions. Here each
process propagates some of them, and the sums are added over the processes.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.parallel.distributed as data_parallel
from torch.autograd.function import Function
from torch.nn.modules._functions import SyncBatchNorm
from torch.nn.parallel._functions import Gather, Scatter

from . import func
from . import rules as _rules
from .func.point import tree_map
from .registry import UnsupportedFunction
from .tensor import Guarded, TaylorTensor, flatten, full, settle, untraced, wrap
from .writing import view_of

__all__ = ["laplacian", "weighted_laplacian"]

# --- directions ---------------------------------------------------------------------------------


def laplacian(
    f: Callable,
    argnums: int = 0,
    *,
    event_dims: int | None = None,
    chunk_size: int | None = None,
    return_value: bool = False,
    group: Any = None,
) -> Callable:
    """The Laplacian ``sum_i d^2 f / d x_i^2``, its directions split over the processes of a group.

    Each of ``P`` processes propagates ``D / P`` directions, rounded up, and the sums are added:
    every process gets the whole Laplacian, in the output's shape. All of them must call it, with
    the same ``x`` and the same parameters.

    Gradients: the sum is differentiable, and its backward adds up the gradients of all processes.
    So a parameter's gradient *averaged* over the processes, as ``DistributedDataParallel`` does it,
    is the gradient of the mean of their losses; if all compute the same loss, the gradient of one
    process alone.

    Args:
        f, argnums, event_dims, chunk_size, return_value: as for ``taylortorch.func.laplacian``.
        group: the process group; default all processes.

    Raises:
        TypeError, ValueError: as ``taylortorch.func.laplacian``.
        RuntimeError: ``torch.distributed.init_process_group`` was not called.
    """

    def units(x: torch.Tensor) -> torch.Tensor:
        axes = min(x.ndim, 1) if event_dims is None else event_dims
        return torch.eye(math.prod(x.shape[x.ndim - axes :]), dtype=x.dtype, device=x.device)

    return weighted_laplacian(
        f,
        units,
        argnums,
        event_dims=event_dims,
        chunk_size=chunk_size,
        return_value=return_value,
        group=group,
    )


def weighted_laplacian(
    f: Callable,
    factor: Any,
    argnums: int = 0,
    *,
    drift: Any = None,
    event_dims: int | None = None,
    chunk_size: int | None = None,
    return_value: bool = False,
    group: Any = None,
) -> Callable:
    """The operator ``sum_ij (S S^T)_ij d^2 f / d x_i d x_j + sum_i b_i d f / d x_i``, split.

    As ``laplacian``: each process propagates some of the columns of ``S``.

    Args:
        factor: ``S``, ``(D, r)`` or ``(*batch, D, r)`` or a function of ``x``.
        drift: ``b``, as for ``taylortorch.func.weighted_laplacian``.
        f, argnums, event_dims, chunk_size, return_value: as for ``taylortorch.func.laplacian``.
        group: the process group; default all processes.

    Raises:
        TypeError, ValueError: as ``taylortorch.func.weighted_laplacian``.
        RuntimeError: ``torch.distributed.init_process_group`` was not called.
    """
    if not torch.distributed.is_initialized():
        raise RuntimeError(
            "taylortorch.distributed splits directions over the processes of a group: call "
            "torch.distributed.init_process_group first, or use taylortorch.func in one process"
        )
    group = torch.distributed.group.WORLD if group is None else group
    rank, count = torch.distributed.get_rank(group), torch.distributed.get_world_size(group)

    def own(x: torch.Tensor) -> Any:
        columns = factor(x) if callable(factor) else factor
        if not isinstance(columns, torch.Tensor) or columns.ndim < 2:
            return columns
        mine = columns[..., rank::count]
        # as many in every process, so that all call the model equally often, in chunks or not, and
        # each parameter gets a gradient: wrapped models communicate when they are called and wait
        # for gradients
        missing = -(-columns.shape[-1] // count) - mine.shape[-1]
        return torch.cat([mine, mine.new_zeros((*mine.shape[:-1], missing))], -1)

    local = func.weighted_laplacian(
        f,
        argnums=argnums,
        factor=own,
        drift=drift if rank == 0 else None,
        event_dims=event_dims,
        chunk_size=chunk_size,
        return_value=True,
    )

    def transformed(*args: Any, **kwargs: Any) -> Any:
        part, value = local(*args, **kwargs)
        whole = tree_map(lambda y: _summed(y, group), part)
        return (whole, value) if return_value else whole

    return functools.update_wrapper(transformed, local, updated=())


class _Summed(Function):
    """A sum over processes: every one of them depends on the terms of all."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, group: Any) -> torch.Tensor:  # type: ignore[override]
        ctx.group = group
        result = x.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(result, group=group)
        return result

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:  # type: ignore[override]
        return _Summed.apply(grad, ctx.group), None


def _summed(x: Any, group: Any) -> Any:
    """The sum over all processes, of a series coefficient by coefficient."""
    if not isinstance(x, TaylorTensor):
        return _Summed.apply(x, group)
    settle(x)
    # also those known to be zero here, which need not be known to be zero elsewhere
    blocks = [_summed(full(x, k), group) for k in range(x.order + 1)]
    return wrap(blocks, x._structure, x._level)


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

del _rules
