"""Writing to a series: in-place operations, views, and plain tensors that become TaylorTensors.

Blocks are never written to. An in-place operation computes its result and stores it here; a view
keeps its base and the function that made it, so that a write to either shows in both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..algebra.series import by_degree
from ..algebra.streams import Stream
from .frames import frame_of
from .private import base_of, is_shared, share_memory
from .registry import UnsupportedFunction, name_of
from .tensor import TaylorTensor, become, innermost, run, settle

# --- views --------------------------------------------------------------------------------------


def laid_out_as(x: Any, like: torch.Tensor) -> Any:
    """``x`` in the channels-last layout that images or volumes ``like`` have, if they have one."""
    for rank, layout in ((4, torch.channels_last), (5, torch.channels_last_3d)):
        if like.ndim == rank and like.is_contiguous(memory_format=layout):
            return x.contiguous(memory_format=layout)
    return x


def shares_memory(a: Any, b: Any) -> bool:
    """Whether two values share memory."""
    a, b = innermost(a), innermost(b)
    if torch.compiler.is_dynamo_compiling():
        return bool(b.is_contiguous())
    return bool(share_memory(a, b))


def as_view(
    func: Callable,
    base: Any,
    others: tuple,
    kwargs: dict,
    results: list[TaylorTensor],
    view: bool | str,
    many: bool,
) -> None:
    """Shrink the blocks of views to what they hold, and let them follow writes to their base."""
    for n, result in enumerate(results):
        result._blocks = _shrunk_blocks(result)
        if isinstance(base, TaylorTensor) and (
            view is True or shares_memory(result._blocks[0], base._blocks[0])
        ):

            def replay(x: Any, n: int = n) -> Any:
                again = func(x, *others, **kwargs)
                return again[n] if many else again

            view_of(base, replay, result)


def _shrunk_blocks(result: TaylorTensor) -> Sequence[Any]:
    blocks = result._blocks

    def term(_: Any, k: int) -> Any:
        return None if blocks[k] is None else shrunk(blocks[k], result, k)

    shrunken = by_degree(blocks[0], len(blocks) - 1, term, blocks)
    return shrunken if isinstance(shrunken, Stream) else tuple(shrunken)


def shrunk(block: torch.Tensor, result: TaylorTensor, k: int) -> torch.Tensor:
    """The block with size 1 along the axes on which it repeats itself (stride 0)."""
    first = 1 if result._structure.leads(k) else 0
    if isinstance(block, TaylorTensor):
        return block
    for axis in range(first, block.ndim):
        if block.stride(axis) == 0 and block.shape[axis] > 1:
            block = block.narrow(axis, 0, 1)
    return block


def view_of(base: TaylorTensor, replay: Any, result: TaylorTensor) -> TaylorTensor:
    """Mark ``result`` as the view ``replay(base)``: writes to one show in the other."""
    result._view = (base, replay, base._writes)
    base._viewed = True
    return result


def store(function: Any, target: Any, result: TaylorTensor) -> Any:
    """Write ``result`` into ``target``, as the in-place ``function`` does; returns ``target``.

    Blocks are never written to: the target gets new ones, and its views and its base follow.

    Raises:
        UnsupportedFunction: ``target`` is a plain tensor that other tensors may share memory with.
        RuntimeError: the result does not fit the target, as for plain tensors.
    """
    if tuple(result.shape) != tuple(target.shape):
        raise RuntimeError(
            f"{name_of(function)}: output with shape {list(target.shape)} doesn't match the "
            f"broadcast shape {list(result.shape)}"
        )
    if result.dtype != target.dtype:
        if result.is_complex() and not target.is_complex():
            raise RuntimeError(
                f"{name_of(function)}: result type {result.dtype} can't be cast to {target.dtype}"
            )
        result = run(result.to, target.dtype)
    if not isinstance(target, TaylorTensor):
        return adopt(function, target, result)
    if target._view is not None:
        _refuse_overlap(function, target)
        base, replay, _ = target._view
        store(function, base, run(_scatter, base, replay, result))
        settle(target)
        return target
    blocks = result._blocks
    if not torch.is_grad_enabled():
        blocks = _overwritten(target._blocks, blocks)
    target._blocks, target._structure = blocks, result._structure
    target._level = result._level
    target._writes += 1
    return target


def _overwritten(old: Sequence[Any], new: Sequence[Any]) -> Sequence[Any]:
    """Under ``no_grad`` torch overwrites the numbers of a tensor and keeps its graph."""

    def term(_: Any, k: int) -> Any:
        return _with_history(new[k], old[k] if k < len(old) else None)

    blocks = by_degree(term((), 0), len(new) - 1, term, old, new)
    return blocks if isinstance(blocks, Stream) else tuple(blocks)


def _with_history(new: Any, old: Any) -> Any:
    if old is None or not old.requires_grad:
        return new
    with torch.enable_grad():
        kept = old - old.detach()
        return kept if new is None else new.detach() + kept


def overlaps(size: Sequence[int], stride: Sequence[int]) -> bool:
    """Whether two entries of a tensor of this size and stride are one place in memory."""
    axes = sorted((step, n) for n, step in zip(size, stride, strict=True) if n != 1)
    if any(n == 0 for _, n in axes):
        return False
    reach, nested = 0, True
    for step, n in axes:
        if step == 0:
            return True
        nested = nested and step > reach
        reach += (n - 1) * step
    if nested:
        return False
    places = {0}
    for step, n in axes:
        places = {place + i * step for place in places for i in range(n)}
    return len(places) < math.prod(size)


def _refuse_overlap(function: Any, view: TaylorTensor) -> None:
    value = innermost(view)
    if overlaps(value.shape, value.stride()):
        raise RuntimeError(
            f"{name_of(function)}: more than one element of the written-to tensor refers to a "
            "single memory location. Please clone() the tensor before performing the operation."
        )


def reshape_in_place(function: Any, target: TaylorTensor, result: TaylorTensor) -> TaylorTensor:
    """Make ``target`` what ``result`` is, a series of another shape.

    Raises:
        UnsupportedFunction: ``target`` is a view, or has views, which would not fit any more.
    """
    if target._view is not None or target._viewed:
        raise UnsupportedFunction(
            f"{name_of(function)} changes the shape of a TaylorTensor that is a view or has views: "
            "use the out-of-place function"
        )
    if torch.compiler.is_dynamo_compiling():
        target._blocks = result._blocks
    else:
        become(target, frame_of(result).wrap(result._blocks))
    return target


def _scatter(base: TaylorTensor, replay: Any, part: TaylorTensor) -> Any:
    """``base`` with ``part`` in place of its view ``replay(base)``."""
    count = math.prod(base.shape)
    places = torch.arange(count, device=base.device).reshape(base.shape)
    where = replay(places).reshape(-1)
    flat = base.reshape(-1).index_copy(0, where, part.reshape(-1))
    return flat.reshape(base.shape)


def adopt(function: Any, target: torch.Tensor, result: TaylorTensor) -> torch.Tensor:
    """Turn the plain tensor ``target`` into ``result``, the same Python object."""
    name = name_of(function)
    way_out = "make it with torch.zeros_like(x), a constant series, instead"
    if torch.compiler.is_compiling():
        raise UnsupportedFunction(
            f"{name} writes a TaylorTensor into a plain tensor inside torch.compile: {way_out}"
        )
    if target.is_leaf and target.requires_grad:
        raise RuntimeError(
            f"{name}: a leaf tensor that requires grad is being used in an in-place operation"
        )
    storage = target.untyped_storage()
    if base_of(target) is not None or is_shared(storage) or not storage.resizable():
        raise UnsupportedFunction(
            f"{name} writes a TaylorTensor into a plain tensor whose memory other tensors (views, "
            f".data, an array) share and would not see the coefficients: {way_out}"
        )
    try:
        become(target, frame_of(result).wrap(result._blocks))
    except RuntimeError as error:
        raise UnsupportedFunction(
            f"{name} writes a TaylorTensor into a plain tensor that something else refers to "
            f"({error}): {way_out}"
        ) from None
    return target
