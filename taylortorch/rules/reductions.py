"""Reductions: linear ones as rows, the others as torch code built from them."""

from __future__ import annotations

import math
from typing import Any

import torch

from ..kinds import composite, in_place, multilinear
from ..lifts import by_axes, by_vmap
from ..registry import add_rule, call, t

X = t(2, 3, 4, low=-1, high=1)
POSITIVE = t(2, 3, 4)

ALL_AXES = by_axes(("dim", 1, None))
LINEAR = {
    "sum": (ALL_AXES, [call(X), call(X, 1), call(X, (0, 2), True), call(X, dim=-1, keepdim=True)]),
    "mean": (ALL_AXES, [call(X), call(X, 1), call(X, (0, 2), True)]),
    "cumsum": (by_axes(("dim", 1, 0)), [call(X, 1)]),
    "sum_to_size": (by_vmap, [call(X, (3, 1))]),
}
for names, (lift, samples) in LINEAR.items():
    evaluate = multilinear("input : input", lift)
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


def _std(*args: Any, **kwargs: Any) -> Any:
    return torch.sqrt(_var(*args, **kwargs))


def _var_mean(input: Any, dim: Any = None, *args: Any, **kwargs: Any) -> Any:
    variance = _var(input, dim, *args, **kwargs)
    if isinstance(dim, bool):
        dim = None
    keepdim = args[1] if len(args) > 1 else kwargs.get("keepdim", False)
    return variance, torch.mean(input, _axes(input, dim), keepdim=keepdim)


def _std_mean(*args: Any, **kwargs: Any) -> Any:
    variance, mean = _var_mean(*args, **kwargs)
    return torch.sqrt(variance), mean


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
    if not axes:
        return torch.abs(x)
    size = torch.abs(x) if x.is_complex() else x
    if ord == math.inf:
        return torch.amax(torch.abs(x), axes, keepdim)
    if ord == -math.inf:
        return torch.amin(torch.abs(x), axes, keepdim)
    if ord == 0:
        return torch.sum((x != 0).to(torch.abs(x).dtype), axes, keepdim=keepdim)
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
    if not axes:
        return torch.clone(input)
    if input.numel() == 0:
        return torch.log(torch.sum(input, axes, keepdim=keepdim))
    peak = torch.amax(input.detach(), axes, True)
    peak = torch.where(torch.isfinite(peak), peak, 0.0)
    total = torch.log(torch.sum(torch.exp(input - peak), axes, keepdim=keepdim))
    if not keepdim:
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


ZERO = t(2, 3, low=0, high=0)
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
