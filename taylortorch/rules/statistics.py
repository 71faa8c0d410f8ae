"""Integrals over samples, statistics, and reductions into places that an index names."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..engine.arguments import bind, series_among
from ..engine.kinds import composite, in_place
from ..engine.multilinear import multilinear
from ..engine.registry import add_rule
from ..engine.samples import Sample, call, t
from ..engine.tensor import TaylorTensor, innermost, run
from ..engine.writing import store

# --- sums, integrals and statistics ---------------------------------------------------------------


def _logcumsumexp(input: Any, dim: int) -> Any:
    """Doubling: log2(n) steps of ``log(e^a + e^b)``, which never leaves the range of its terms."""
    x = input
    count, step = (x.shape[dim] if x.ndim else 1), 1
    while step < count:
        head = torch.narrow(x, dim, 0, step)
        tail = torch.narrow(x, dim, step, count - step)
        shifted = torch.narrow(x, dim, 0, count - step)
        # two terms -inf have no slope, but must not spoil the sums they are part of
        nothing = (tail == -torch.inf) & (shifted == -torch.inf)
        total = torch.logaddexp(torch.where(nothing, 0.0, tail), torch.where(nothing, 0.0, shifted))
        x = torch.cat([head, torch.where(nothing, -torch.inf, total)], dim)
        step *= 2
    if x.is_complex() and x is not input:
        # a logarithm is one of many; torch, adding one term after the other, finds its own
        own = torch.logcumsumexp(innermost(input).detach(), dim)
        turns = torch.round((own.imag - innermost(x).detach().imag) / math.tau).nan_to_num()
        x = x + torch.complex(torch.zeros_like(turns), math.tau * turns)
    return torch.clone(x) if x is input else x


def _panels(y: Any, x: Any, dx: Any, dim: int) -> Any:
    """The area of each trapezoid."""
    count = y.shape[dim]
    sums = torch.narrow(y, dim, 1, count - 1) + torch.narrow(y, dim, 0, count - 1)
    if x is None:
        return sums * (dx / 2)
    axis = dim
    if x.ndim == 1:
        shape = [1] * y.ndim
        shape[dim] = x.shape[0]
        x = torch.reshape(x, tuple(shape))
    elif x.ndim < y.ndim:
        x = torch.reshape(x, (1,) * (y.ndim - x.ndim) + tuple(x.shape))
    widths = x.shape[axis] - 1
    return sums * (torch.narrow(x, axis, 1, widths) - torch.narrow(x, axis, 0, widths)) / 2


def _trapezoid(y: Any, x: Any = None, *, dx: Any = 1.0, dim: int = -1) -> Any:
    if y.shape[dim] == 0:
        return torch.sum(y, dim)
    return torch.sum(_panels(y, x, dx, dim), dim)


def _cumulative_trapezoid(y: Any, x: Any = None, *, dx: Any = 1.0, dim: int = -1) -> Any:
    return torch.cumsum(_panels(y, x, dx, dim), dim)


def _cov(input: Any, *, correction: int = 1, fweights: Any = None, aweights: Any = None) -> Any:
    x = input.reshape((1, -1)) if input.ndim < 2 else input
    weights = fweights
    if aweights is not None:
        weights = aweights if fweights is None else fweights * aweights
    total: Any = x.shape[1] if weights is None else torch.sum(weights)
    if correction != 0 and aweights is not None:
        squares = weights * aweights
        freedom = total - correction * torch.sum(squares) / total
    else:
        freedom = total - correction
    # not below zero, as in torch
    freedom = torch.clamp(freedom, min=0) if isinstance(freedom, torch.Tensor) else max(freedom, 0)
    weighted = x if weights is None else x * weights
    centred = x - torch.sum(weighted, 1, keepdim=True) / total
    left = centred if weights is None else centred * weights
    right = torch.conj(centred) if x.is_complex() else centred
    result = torch.matmul(left, torch.transpose(right, 0, 1)) / freedom
    return torch.reshape(result, ()) if x.shape[0] == 1 else result


def _corrcoef(input: Any) -> Any:
    covariance = _cov(input)
    if covariance.ndim == 0:
        return covariance / covariance
    deviation = torch.sqrt(torch.diagonal(covariance).real)
    result = covariance / torch.unsqueeze(deviation, 1) / deviation
    return result if result.is_complex() else torch.clamp(result, -1, 1)


def _combinations(input: Any, r: int = 2, with_replacement: bool = False) -> Any:
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    chosen = list(choose(range(input.shape[0]), r))
    places = torch.tensor(chosen, dtype=torch.long, device=input.device).reshape(-1)
    return torch.reshape(torch.index_select(input, 0, places), (len(chosen), r) if r else (0,))


def _renorm(input: Any, p: float, dim: int, maxnorm: float) -> Any:
    """Slices along ``dim`` of a larger norm are scaled to ``maxnorm``; torch adds 1e-7 to it."""
    axes = tuple(axis for axis in range(input.ndim) if axis != dim % input.ndim)
    norm = torch.linalg.vector_norm(input, p, axes, True)
    over = norm > maxnorm
    return input * torch.where(over, maxnorm / (torch.where(over, norm, 1.0) + 1e-7), 1.0)


def _polar(abs: Any, angle: Any) -> Any:
    return torch.complex(abs * torch.cos(angle), abs * torch.sin(angle))


def _quantile(skip_nan: bool) -> Callable:
    """Sorted entries, interpolated at rank ``q (n - 1)``."""

    def body(
        input: Any,
        q: Any,
        dim: int | None = None,
        keepdim: bool = False,
        *,
        interpolation: str = "linear",
    ) -> Any:
        many = isinstance(q, torch.Tensor) and q.ndim > 0
        rank = input.ndim
        x = torch.reshape(input, (-1,)) if dim is None else torch.movedim(input, dim, -1)
        x = torch.sort(torch.reshape(x, (1,)) if x.ndim == 0 else x, -1).values
        if not isinstance(q, torch.Tensor):
            q = torch.tensor(q, dtype=x.dtype, device=x.device)
        missing = torch.isnan(x)
        counts = x.shape[-1] - torch.sum(missing, -1, keepdim=True)
        ranks = torch.reshape(q, (-1,)) * (torch.clamp(counts, min=1) - 1)
        if not skip_nan:
            # one NaN makes a NaN of the result, and they are sorted last
            whole = torch.reshape(q, (-1,)) * float(x.shape[-1] - 1)
            ranks = torch.where(counts < x.shape[-1], float(x.shape[-1] - 1), whole)
        at = ranks.detach()
        below, above = torch.floor(at), torch.ceil(at)
        if interpolation == "nearest":
            below = above = torch.round(at)
        elif interpolation == "lower":
            above = below
        elif interpolation == "higher":
            below = above
        low = torch.gather(x, -1, below.long())
        if below is above:
            result = low
        else:
            high = torch.gather(x, -1, above.long())
            # two equal entries, or two infinite ones, need no interpolation
            weight = 0.5 if interpolation == "midpoint" else ranks - below
            result = torch.where(below == above, low, low + weight * (high - low))
            if isinstance(ranks, TaylorTensor):
                result = low + weight * (high - low)
        if keepdim:
            if dim is None:
                result = torch.reshape(result, (1,) * rank + tuple(result.shape))
            elif rank > 0:
                result = torch.unsqueeze(result, dim % rank)
        return torch.movedim(result, -1, 0) if many else torch.squeeze(result, -1)

    return body


# --- reductions into places -----------------------------------------------------------------------


def _scatter_reduce(
    input: Any, dim: int, index: Any, src: Any, reduce: str, *, include_self: bool = True
) -> Any:
    """Ties of ``amax`` and ``amin`` share the slope equally, as autograd's."""
    if input.ndim == 0:
        x, places, source = (torch.reshape(a, (1,)) for a in (input, index, src))
        result = _scatter_reduce(x, 0, places, source, reduce, include_self=include_self)
        return torch.reshape(result, ())
    for axis, size in enumerate(index.shape):
        src = torch.narrow(src, axis, 0, size)
    like = {"dtype": innermost(input).real.dtype, "device": input.device}
    ones = torch.ones(tuple(index.shape), **like)
    hits = torch.scatter_add(torch.zeros(tuple(input.shape), **like), dim, index, ones)
    kept = torch.ones_like(hits) if include_self else (hits == 0).to(hits.dtype)
    if reduce in ("sum", "mean"):
        start = input if include_self else torch.where(kept > 0, input, 0.0)
        total = torch.scatter_add(start, dim, index, src)
        return total if reduce == "sum" else total / torch.clamp(hits + kept, min=1)
    if reduce == "prod":
        result = input if include_self else torch.where(kept > 0, input, 1.0)
        for n in range(index.shape[dim]):
            # no two entries of a slice meet in one place
            places = torch.narrow(index, dim, n, 1)
            factor = torch.gather(result, dim, places) * torch.narrow(src, dim, n, 1)
            result = torch.scatter(result, dim, places, factor)
        return result
    best = torch.scatter_reduce(
        innermost(input), dim, index, innermost(src), reduce, include_self=include_self
    )
    winning = innermost(src) == torch.gather(best, dim, index)
    staying = (innermost(input) == best) & (kept > 0)
    winners = torch.scatter_add(staying.to(input.dtype), dim, index, winning.to(input.dtype))
    total = torch.scatter_add(
        torch.where(staying, input, 0.0), dim, index, torch.where(winning, src, 0.0)
    )
    return total / winners


def _index_reduce(
    input: Any, dim: int, index: Any, source: Any, reduce: str, *, include_self: bool = True
) -> Any:
    if input.ndim == 0:
        return _scatter_reduce(
            input, 0, index.reshape(()), source.reshape(()), reduce, include_self=include_self
        )
    shape = [1] * source.ndim
    shape[dim] = -1
    places = index.long().reshape(shape).expand(tuple(source.shape))
    return _scatter_reduce(input, dim, places, source, reduce, include_self=include_self)


def _put(input: Any, index: Any, source: Any, accumulate: bool = False) -> Any:
    flat = torch.reshape(input, (-1,))
    places = index.reshape(-1)
    places = torch.where(places < 0, places + flat.shape[0], places)
    values = torch.reshape(source, (-1,))
    write = torch.index_add if accumulate else torch.index_copy
    return torch.reshape(write(flat, 0, places, values), tuple(input.shape))


def _unsafe_split_with_sizes(input: Any, split_sizes: Sequence[int], dim: int = 0) -> list[Any]:
    return [torch.clone(part) for part in torch.split(input, list(split_sizes), dim)]


M = t(3, 4, low=-1, high=1)


DEEP = t(2, 3, 4, low=-1, high=1)


INDEX = torch.tensor([[0, 1, 1, 2], [1, 1, 0, 0], [0, 0, 2, 1]])


ROWS = torch.tensor([2, 0, 2, 2])


POINTS = torch.tensor([0, 5, -1])


COUNTS = torch.tensor([1, 2, 1, 3])


AWEIGHTS = torch.tensor([0.5, 1.0, 0.7, 0.2], dtype=torch.float64)


Q = torch.tensor([0.1, 0.6, 1.0], dtype=torch.float64)


REDUCTIONS = ("sum", "mean", "amax", "amin", "prod")


QUANTILES = [
    call(M, 0.3),
    call(M, Q, 1),
    call(M, 0.4, 0, True),
    call(DEEP, Q, 1, True, interpolation="midpoint"),
    call(M, 0.4, 1, interpolation="nearest"),
    call(M, 0.4, 1, interpolation="lower"),
    call(M, 0.4, 1, interpolation="higher"),
]


TABLE: dict[str, tuple[Callable, list[Sample]]] = {
    "logcumsumexp": (_logcumsumexp, [call(DEEP, 1), call(t(5, low=-3, high=3), 0)]),
    "torch.trapezoid torch.trapz": (
        _trapezoid,
        [
            call(DEEP),
            call(M, dx=0.3, dim=0),
            call(DEEP, t(4)),
            call(DEEP, t(3), dim=1),
            call(DEEP, t(3, 4), dim=1),
        ],
    ),
    "torch.cumulative_trapezoid": (
        _cumulative_trapezoid,
        [call(DEEP), call(M, dx=0.3, dim=0), call(DEEP, t(3), dim=1)],
    ),
    "cov": (
        _cov,
        [
            call(M),
            call(t(5)),
            call(M, correction=0),
            call(M, fweights=COUNTS),
            call(M, fweights=COUNTS, aweights=AWEIGHTS),
        ],
    ),
    "corrcoef": (_corrcoef, [call(M)]),
    "torch.combinations": (_combinations, [call(t(4)), call(t(3), 2, True), call(t(4), 3)]),
    "renorm": (_renorm, [call(M, 2, 0, 0.9), call(M, 1, 1, 0.5), call(DEEP, 3, -1, 0.7)]),
    "torch.polar": (_polar, [call(t(2, 3), t(2, 3, low=-2, high=2))]),
    "quantile": (_quantile(False), QUANTILES),
    "nanquantile": (_quantile(True), QUANTILES),
    "scatter_reduce": (
        _scatter_reduce,
        [
            call(M, 0, INDEX, t(3, 4, low=0.3, high=1.5), how, include_self=included)
            for how in REDUCTIONS
            for included in (True, False)
        ],
    ),
    "index_reduce": (
        _index_reduce,
        [
            call(M, 0, ROWS, t(4, 4, low=0.3, high=1.5), how, include_self=included)
            for how in REDUCTIONS[1:]
            for included in (True, False)
        ],
    ),
    "put": (_put, [call(M, POINTS, t(3)), call(M, torch.tensor([[1, 1]]), t(1, 2), True)]),
}


for names, (body, samples) in TABLE.items():
    evaluate = composite(body)
    add_rule(names, "composite", "torch code", evaluate, samples, in_place=in_place(evaluate))


add_rule(
    "unsafe_split_with_sizes",
    "composite",
    "split, copied",
    composite(_unsafe_split_with_sizes),
    [call(DEEP, (1, 3), 2)],
)


def _frexp(func: Callable, args: tuple, kwargs: dict) -> Any:
    """The mantissa is ``x 2**-e`` with a constant exponent ``e``."""
    (x,), _, _ = bind(func, ("input",), args, kwargs)
    series_among(func, (x,))
    exponent = innermost(func(x.value).exponent)
    # in two steps: 2^-e itself may be too large a number
    half = torch.div(exponent, 2, rounding_mode="floor")
    for part in (half, exponent - half):
        x = run(torch.mul, x, torch.exp2(-part.to(x.dtype)))
    return torch.return_types.frexp((x, exponent))  # type: ignore[attr-defined]


add_rule("frexp", "by hand", "x 2^-e", _frexp, [call(t(2, 3, low=-5, high=5))])


def _fill_diagonal(func: Callable, args: tuple, kwargs: dict) -> Any:
    def filled(input: Any, fill_value: Any, wrap: bool = False) -> Any:
        mask = torch.zeros(tuple(input.shape), dtype=torch.bool, device=input.device)
        return torch.where(mask.fill_diagonal_(True, wrap), fill_value, input)

    return store(func, args[0], run(filled, *args, **kwargs))


add_rule("Tensor.fill_diagonal_", "linear", "input, number on the diagonal", _fill_diagonal)


def _unique(*names: str) -> Callable:
    """Each distinct entry (or slice along ``dim``); equal ones share its slope equally."""

    def evaluate(func: Callable, args: tuple, kwargs: dict) -> Any:
        given = dict(zip(names, args, strict=False), **kwargs)
        x = given.pop("input")
        series_among(func, (x,))
        everything = given | {"return_inverse": True, "return_counts": True}
        _, inverse, counts = func(innermost(x), **everything)
        result = [run(_averaged, x, inverse, counts, given.get("dim"))]
        result += [inverse] if given.get("return_inverse") else []
        result += [counts] if given.get("return_counts") else []
        return tuple(result) if len(result) > 1 else result[0]

    return evaluate


def _averaged(x: Any, places: Any, counts: Any, dim: int | None) -> Any:
    if dim is None:
        x, places, dim = torch.reshape(x, (-1,)), places.reshape(-1), 0
    shape, lengths = list(x.shape), [1] * x.ndim
    shape[dim] = lengths[dim] = counts.shape[0]
    empty = torch.zeros(shape, dtype=x.dtype, device=x.device)
    return torch.index_add(empty, dim, places, x) / counts.reshape(lengths)


OPTIONS = ("return_inverse", "return_counts", "dim")


for name, evaluate in (
    ("unique", _unique("input", "sorted", *OPTIONS)),
    ("unique_consecutive", _unique("input", *OPTIONS)),
):
    add_rule(
        f"torch.{name} Tensor.{name}",
        "selection",
        "equal entries share",
        evaluate,
        [call(t(2, 3)), call(t(2, 3), return_counts=True, dim=1)],
    )


add_rule(
    "gradient",
    "linear",
    "input",
    multilinear("input : input"),
    [call(DEEP), call(t(5), spacing=0.3, edge_order=2), call(DEEP, dim=1)],
)
