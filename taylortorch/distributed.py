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
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.function import Function

from . import func
from .engine.frames import frame_of
from .engine.tensor import TaylorTensor, full, settle
from .func.point import tree_map

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
    return frame_of(x).wrap(blocks)
