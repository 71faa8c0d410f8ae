"""Reductions: linear ones as rows, the others as torch code built from them."""

from __future__ import annotations

import math
from typing import Any

import torch

from ..engine.directions import Owned
from ..engine.kinds import composite, in_place
from ..engine.lifts import by_axes, by_vmap
from ..engine.multilinear import multilinear
from ..engine.registry import add_rule
from ..engine.samples import call, t
from ..engine.tensor import innermost, wrap

X = t(2, 3, 4, low=-1, high=1)
POSITIVE = t(2, 3, 4)

ALL_AXES = by_axes(("dim", 1, None))
LINEAR = {
    "sum": (ALL_AXES, [call(X), call(X, 1), call(X, (0, 2), True), call(X, dim=-1, keepdim=True)]),
    "mean": (ALL_AXES, [call(X), call(X, 1), call(X, (0, 2), True)]),
    "cumsum": (by_axes(("dim", 1, 0)), [call(X, 1)]),
    "sum_to_size": (by_vmap, [call(X, (3, 1))]),
}


def _sum_through(
    func: Any, x: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Any:
    """A sum or mean on the compact directions of a Laplacian: spread out by the sum at no cost."""
    structure = x._structure
    if not isinstance(structure, Owned) or dtype is not None or x.ndim == 0:
        return None
    value, first, second = x._blocks
    y0 = func(value) if dim is None else func(value, dim, keepdim)
    axes = _axes(x, dim) if dim is not None else range(x.ndim)
    removed = sorted(axis % x.ndim - x.ndim for axis in axes)
    count = (
        1 if func in (torch.sum, torch.Tensor.sum) else math.prod([value.shape[a] for a in removed])
    )
    own = structure.axis

    def summed(block: Any, over: list[int]) -> Any:
        lead = block.ndim - value.ndim
        wanted = [
            value.shape[axis] if axis in over else block.shape[axis] for axis in range(-x.ndim, 0)
        ]
        block = block.expand(*block.shape[:lead], *wanted)
        return torch.sum(block, over, keepdim=True) if over else block

    def dropped(block: Any) -> Any:
        return block if keepdim else block.squeeze(removed)

    if second is not None:
        second = dropped(summed(second, removed) / count)
    if first is not None:
        first = summed(first, [axis for axis in removed if axis != own])
        if own in removed:
            first = structure.summed(first)
        first = dropped(first / count)
    if own in removed:
        return wrap((y0, first, second), structure.base, x._level)
    kept = own if keepdim else own + sum(axis > own for axis in removed)
    return wrap((y0, first, second), structure.moved(kept), x._level)


for names, (lift, samples) in LINEAR.items():
    through = _sum_through if names in ("sum", "mean") else None
    evaluate = multilinear("input : input", lift, through=through)
    add_rule(
        names,
        "linear",
        "input",
        evaluate,
        samples,
        in_place=in_place(evaluate) if names == "cumsum" else None,
    )


def _prod(
    input: Any, dim: int | None = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Any:
    """By halves: log2(n) products, and no division, so zeros among the factors are right."""
    x = input if dtype is None else input.to(dtype)
    if dim is None:
        x, dim, keepdim = torch.reshape(x, (-1,)), 0, False
    if x.ndim == 0:
        return torch.clone(x)
    count = x.shape[dim]
    if count == 0:
        result = torch.ones_like(torch.sum(x, dim, keepdim=True))
        return result if keepdim else torch.squeeze(result, dim)
    while count > 1:
        half = count // 2
        pairs = torch.narrow(x, dim, 0, half) * torch.narrow(x, dim, half, half)
        if count % 2:
            pairs = torch.cat([pairs, torch.narrow(x, dim, count - 1, 1)], dim)
        x, count = pairs, half + count % 2
    return x if keepdim else torch.squeeze(x, dim)


def _cumprod(input: Any, dim: int, *, dtype: torch.dtype | None = None) -> Any:
    """Doubling: log2(n) products, and no division."""
    x = input if dtype is None else input.to(dtype)
    count, step = (x.shape[dim] if x.ndim else 1), 1
    while step < count:
        head = torch.narrow(x, dim, 0, step)
        tail = torch.narrow(x, dim, step, count - step) * torch.narrow(x, dim, 0, count - step)
        x = torch.cat([head, tail], dim)
        step *= 2
    return torch.clone(x) if x is input else x


def _axes(input: Any, dim: Any) -> tuple[int, ...]:
    if dim is None or dim == ():
        return tuple(range(input.ndim))
    return (dim,) if isinstance(dim, int) else tuple(dim)


def _var(
    input: Any,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Any:
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if correction is None:
        correction = 1 if unbiased is None or unbiased else 0
    axes = _axes(input, dim)
    count = math.prod(input.shape[axis] for axis in axes)
    centred = input - torch.mean(input, axes, keepdim=True) if axes else input - input
    squares = centred * centred if not input.is_complex() else (centred * centred.conj()).real
    total = torch.sum(squares, axes, keepdim=keepdim) if axes else squares
    if count == 0:
        return total + math.nan
    return total / max(count - correction, 0)


def _deviation(variance: Any) -> Any:
    """The root; 0 with all its derivatives where all entries are equal, as torch's autograd."""
    none = variance == 0
    return torch.where(none, 0.0, torch.sqrt(torch.where(none, 1.0, variance)))


def _std(*args: Any, **kwargs: Any) -> Any:
    return _deviation(_var(*args, **kwargs))


def _var_mean(input: Any, dim: Any = None, *args: Any, **kwargs: Any) -> Any:
    variance = _var(input, dim, *args, **kwargs)
    if isinstance(dim, bool):
        dim = None
    keepdim = args[1] if len(args) > 1 else kwargs.get("keepdim", False)
    return variance, torch.mean(input, _axes(input, dim), keepdim=keepdim)


def _std_mean(*args: Any, **kwargs: Any) -> Any:
    variance, mean = _var_mean(*args, **kwargs)
    return _deviation(variance), mean


def _root(total: Any, power: float) -> Any:
    """``total**power`` where total > 0; 0 with all its derivatives elsewhere, as torch's norm."""
    zero = total == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, total) ** power)


def _vector_norm(
    x: Any, ord: float = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Any:
    if dtype is not None:
        x = x.to(dtype)
    axes = _axes(x, dim)
    if ord == 0:
        counted = (x != 0).to(torch.abs(x).dtype)
        return torch.sum(counted, axes, keepdim=keepdim) if axes else counted
    if not axes:
        return torch.abs(x)
    size = torch.abs(x) if x.is_complex() else x
    if ord == math.inf:
        return torch.amax(torch.abs(x), axes, keepdim)
    if ord == -math.inf:
        return torch.amin(torch.abs(x), axes, keepdim)
    if ord == 1:
        return torch.sum(torch.abs(x), axes, keepdim=keepdim)
    if ord == 2:
        return _root(torch.sum(size * size, axes, keepdim=keepdim), 0.5)
    if float(ord).is_integer() and ord > 0 and int(ord) % 2 == 0:
        return _root(torch.sum(size ** int(ord), axes, keepdim=keepdim), 1.0 / ord)
    return _root(torch.sum(_root(torch.abs(x), ord), axes, keepdim=keepdim), 1.0 / ord)


def _norm(
    input: Any, p: Any = "fro", dim: Any = None, keepdim: bool = False, dtype: Any = None
) -> Any:
    if p is None or p == "fro":
        p = 2
    if p == "nuc":
        return _matrix_norm(input, p, (-2, -1) if dim is None else dim, keepdim, dtype=dtype)
    return _vector_norm(input, p, dim, keepdim, dtype=dtype)


def _linalg_norm(
    A: Any, ord: Any = None, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Any:
    if ord is None:
        return _vector_norm(A, 2, dim, keepdim, dtype=dtype)
    axes = _axes(A, dim)
    if len(axes) == 2:
        return _matrix_norm(A, ord, axes, keepdim, dtype=dtype)
    return _vector_norm(A, ord, dim, keepdim, dtype=dtype)


def _matrix_norm(
    A: Any, ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False, *, dtype: Any = None
) -> Any:
    if dtype is not None:
        A = A.to(dtype)
    if ord == "fro":
        return _vector_norm(A, 2, dim, keepdim)
    if A.numel() == 0:
        return torch.linalg.matrix_norm(innermost(A), ord, dim, keepdim)
    rows, columns = (axis % A.ndim for axis in dim)
    if ord in (2, -2, "nuc"):
        values = torch.linalg.svdvals(torch.movedim(A, (rows, columns), (-2, -1)))
        if ord == "nuc":
            result = torch.sum(values, -1)
        else:
            result = (torch.amax if ord > 0 else torch.amin)(values, -1)
        for axis in sorted((rows, columns)) if keepdim else ():
            result = torch.unsqueeze(result, axis)
        return result
    along, across = (rows, columns) if abs(ord) == 1 else (columns, rows)
    sums = torch.sum(torch.abs(A), along, keepdim=True)
    result = (torch.amax if ord > 0 else torch.amin)(sums, across, True)
    for axis in () if keepdim else sorted((rows, columns), reverse=True):
        result = torch.squeeze(result, axis)
    return result


def _dist(input: Any, other: Any, p: float = 2) -> Any:
    return _vector_norm(input - other, p)


def _logsumexp(input: Any, dim: Any, keepdim: bool = False) -> Any:
    axes = _axes(input, dim)
    if not axes and not input.is_complex():
        return torch.clone(input)
    if not axes:
        # the imaginary part of a logarithm is an angle
        size = torch.where(torch.isfinite(input.real), input.real, 0.0)
        return torch.log(torch.exp(input - size)) + size
    if input.numel() == 0:
        return torch.log(torch.sum(input, axes, keepdim=keepdim))
    size = input.real if input.is_complex() else input
    peak = torch.amax(size.detach(), axes, True)
    peak = torch.where(torch.isfinite(peak), peak, 0.0)
    total = torch.log(torch.sum(torch.exp(input - peak), axes, keepdim=keepdim))
    if not keepdim and input.ndim:
        for axis in sorted((axis % input.ndim for axis in axes), reverse=True):
            peak = torch.squeeze(peak, axis)
    return total + peak


def _nansum(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    clean = torch.where(torch.isnan(input), 0.0, input)
    return torch.sum(clean, _axes(input, dim), keepdim=keepdim, dtype=dtype)


def _nanmean(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    axes = _axes(input, dim)
    count = torch.sum(~torch.isnan(input), axes, keepdim=keepdim)
    return _nansum(input, axes, keepdim, dtype=dtype) / count


def _segment_reduce(
    data: Any,
    reduce: str,
    *,
    lengths: Any = None,
    indices: Any = None,
    offsets: Any = None,
    dim: int = 0,
    unsafe: bool = False,
    initial: Any = None,
) -> Any:
    """Neighbours that share a segment; equal extremes share the slope, as autograd's."""
    best = torch.segment_reduce(
        innermost(data),
        reduce,
        lengths=lengths,
        indices=indices,
        offsets=offsets,
        axis=dim,
        unsafe=unsafe,
        initial=initial,
    )
    if offsets is None:
        ends = torch.cumsum(lengths, -1)
        offsets = torch.cat([torch.zeros_like(ends[..., :1]), ends], -1)
    axis = offsets.ndim - 1
    count, segments = data.shape[axis], offsets.shape[-1] - 1

    def across(x: Any) -> Any:
        """One number per place of the axis, for all entries there."""
        full = (*x.shape, *data.shape[axis + 1 :])
        return x.reshape(*x.shape, *[1] * (data.ndim - x.ndim)).expand(full)

    place = torch.arange(count, device=data.device).expand(*offsets.shape[:-1], count)
    segment = torch.searchsorted(offsets, place.contiguous(), right=True) - 1
    # what lies outside of all segments goes to one more, which is dropped
    outside = (segment < 0) | (segment >= segments)
    index = across(torch.where(outside, segments, segment))

    def gathered(x: Any) -> Any:
        """The sums over the segments."""
        shape = (*data.shape[:axis], segments + 1, *data.shape[axis + 1 :])
        zeros = torch.zeros(shape, dtype=best.dtype, device=data.device)
        return torch.narrow(torch.scatter_add(zeros, axis, index, x), axis, 0, segments)

    def spread(x: Any) -> Any:
        """Every entry's segment's number."""
        outer = x.new_zeros((*x.shape[:axis], 1, *x.shape[axis + 1 :]))
        return torch.gather(torch.cat([x, outer], axis), axis, index)

    if reduce in ("sum", "mean"):
        total = gathered(data) if initial is None else gathered(data) + initial
        if reduce == "sum":
            return total
        size = across(torch.diff(offsets))
        return total / (size if initial is None else size.clamp(min=1))
    if reduce == "prod":
        return _segment_product(data, axis, across, offsets, place, segment, initial)
    winning = innermost(data) == spread(best)
    winners = gathered(winning.to(best.dtype))
    total = gathered(torch.where(winning, data, 0.0)) / winners.clamp(min=1)
    return torch.where(winners == 0, best, total)


def _segment_product(
    x: Any, axis: int, across: Any, offsets: Any, place: Any, segment: Any, initial: Any
) -> Any:
    """Doubling, as in ``cumprod``; each segment's product is what its last place has then."""
    count, starts, ends = x.shape[axis], offsets[..., :-1], offsets[..., 1:]
    if starts.shape[-1] and count:
        start = torch.gather(starts, -1, segment.clamp(0, starts.shape[-1] - 1))
        step = 1
        while step < count:
            before = torch.cat(
                [torch.narrow(x, axis, 0, step), torch.narrow(x, axis, 0, count - step)], axis
            )
            x = x * torch.where(across(place - step >= start), before, 1.0)
            step *= 2
        x = torch.gather(x, axis, across((ends - 1).clamp(0, count - 1)))
        x = torch.where(across(ends > starts), x, 1.0)
    else:
        x = x.new_ones((*x.shape[:axis], starts.shape[-1], *x.shape[axis + 1 :]))
    return x if initial is None else x * initial


ZERO = t(2, 3, low=0, high=0)
ROWS, LENGTHS = t(6, 2, low=-1), torch.tensor([2, 0, 3, 1])
TABLE: dict[str, tuple[Any, list]] = {
    "prod": (_prod, [call(X), call(X, 1), call(X, 2, True), call(t(2, 5), 1), call(ZERO, 1)]),
    "cumprod": (_cumprod, [call(X, 2), call(t(2, 5), 1), call(ZERO, 1)]),
    "var": (_var, [call(X), call(X, 1), call(X, (0, 2), correction=0, keepdim=True)]),
    "std": (_std, [call(X), call(X, 1), call(X, 1, False)]),
    "var_mean": (_var_mean, [call(X, 1)]),
    "std_mean": (_std_mean, [call(X, 1)]),
    "norm": (_norm, [call(X), call(X, 3, 1), call(X, 1, 1), call(X, 2, 1, True)]),
    "linalg.norm": (_linalg_norm, [call(X), call(X, 2, 1), call(t(3, 4), 1)]),
    "linalg.vector_norm": (
        _vector_norm,
        [call(X), call(X, 3, 1), call(X, 1, (0, 1)), call(X, 2.5, 1), call(X, math.inf, 1)],
    ),
    "linalg.matrix_norm": (
        _matrix_norm,
        [call(X), call(X, 1), call(X, math.inf), call(X, 2), call(X, "nuc", (0, 1), True)],
    ),
    "dist": (_dist, [call(t(2, 3), t(3), 3)]),
    "logsumexp special.logsumexp": (_logsumexp, [call(X, 1), call(X, (0, 2), True)]),
    "nansum": (_nansum, [call(X, 1), call(X)]),
    "nanmean": (_nanmean, [call(X, 1)]),
    "segment_reduce": (
        _segment_reduce,
        [
            call(ROWS, "sum", lengths=LENGTHS),
            call(ROWS, "mean", lengths=LENGTHS, initial=1.5),
            call(ROWS, "max", lengths=LENGTHS, initial=0.3),
            call(ROWS, "min", offsets=torch.tensor([0, 2, 5, 6])),
            call(ROWS, "prod", lengths=LENGTHS, initial=-2),
            call(t(2, 5), "prod", lengths=torch.tensor([[1, 4, 0], [0, 0, 5]]), axis=1),
        ],
    ),
}
for names, (body, samples) in TABLE.items():
    evaluate = composite(body)
    add_rule(
        names,
        "composite",
        "torch code",
        evaluate,
        samples,
        in_place=in_place(evaluate) if names == "cumprod" else None,
    )
