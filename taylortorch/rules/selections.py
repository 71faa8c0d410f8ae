"""Functions that are linear on each piece: ``c_0`` picks the piece.

At kinks and ties they do what torch's autograd does: the slope of relu and abs at 0 is 0, ``amax``
and ``max()`` share equally among the largest entries, ``max(dim)`` and ``sort`` follow the index
they return. Where versions of torch differ, in clamps at their bounds and in maxima of equal
operands, this torch is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from ..algebra.series import each
from ..engine.arguments import bind, series_among
from ..engine.frames import join
from ..engine.kinds import composite, in_place, piecewise, with_inplace_argument
from ..engine.registry import add_rule
from ..engine.samples import call, t
from ..engine.tensor import run
from ..engine.ties import by_piece, slopes_at

SIGNED = t(3, 4, low=-2, high=2)


# in x and y where they are equal
_TIES = {
    name: slopes_at(getattr(torch, name), 0.0, 0.0)
    for name in ("maximum", "minimum", "fmax", "fmin")
}
# in x, at a bound that is a number
_AT_NUMBER = slopes_at(lambda x: torch.clamp(x, 0.0, 1.0), 0.0)
# in x, min and max, where some of them are equal and none of them is out of order
_AT_LOWER = slopes_at(torch.clamp, 0.0, 0.0, 1.0)
_AT_UPPER = slopes_at(torch.clamp, 1.0, 0.0, 1.0)
_AT_BOTH = slopes_at(torch.clamp, 0.0, 0.0, 0.0)
_BELOW_BOTH = slopes_at(torch.clamp, 0.0, 1.0, 1.0)


def _clamp_slopes(x: Any, min: Any = None, max: Any = None) -> tuple[Any, ...]:
    """In the input and in the two bounds; where the bounds cross, the upper one is the result."""
    inside = closed = torch.ones_like(x, dtype=torch.bool)
    below = at_lower = above = at_upper = both = below_both = torch.zeros_like(inside)
    if min is not None:
        inside, closed, below, at_lower = inside & (x > min), x >= min, x < min, x == min
    if max is not None:
        inside, closed = inside & (x < max), closed & (x <= max)
        above, at_upper = x > max, x == max
    if not isinstance(min, torch.Tensor) and not isinstance(max, torch.Tensor):
        return (*by_piece(x, (inside, (1.0,)), (closed & ~inside, _AT_NUMBER)), False, False)
    if min is not None and max is not None:
        ordered, same = min < max, min == max
        both, below_both = at_lower & same, below & same
        below, above = below & ordered, above | (max < min)
        at_lower, at_upper = at_lower & ordered, at_upper & ordered
    return by_piece(
        x,
        (inside, (1.0, 0.0, 0.0)),
        (below, (0.0, 1.0, 0.0)),
        (above, (0.0, 0.0, 1.0)),
        (at_lower, _AT_LOWER),
        (at_upper, _AT_UPPER),
        (both, _AT_BOTH),
        (below_both, _BELOW_BOTH),
    )


def _larger(name: str, sign: int, skips_nan: bool = False) -> Callable:
    """The slopes of a maximum (sign 1) or minimum (-1) of two, which may prefer numbers to NaN."""

    def slopes(x: Any, y: Any) -> tuple[Any, ...]:
        first, second = (x > y, x < y) if sign > 0 else (x < y, x > y)
        tie = ~first & ~second
        if skips_nan:
            second, tie = second | torch.isnan(x), x == y
            first = ~(second | tie)
        return by_piece(x, (first, (1.0, 0.0)), (second, (0.0, 1.0)), (tie, _TIES[name]))

    return slopes


# one operand; the other arguments are the function's own
ONE: dict[str, tuple[Callable, list]] = {
    "relu nn.functional.relu": (lambda x: x > 0, [call(SIGNED)]),
    "relu6 nn.functional.relu6": (lambda x: (x > 0) & (x < 6), [call(t(3, 4, low=-3, high=9))]),
    "leaky_relu nn.functional.leaky_relu": (
        lambda x, negative_slope=0.01: torch.where(x > 0, 1.0, torch.full_like(x, negative_slope)),
        [call(SIGNED), call(SIGNED, 0.2)],
    ),
    "threshold nn.functional.threshold": (
        lambda x, threshold, value: x > threshold,
        [call(SIGNED, 0.3, 0.1)],
    ),
    "hardtanh nn.functional.hardtanh": (
        lambda x, min_val=-1.0, max_val=1.0: (x > min_val) & (x < max_val),
        [call(SIGNED), call(SIGNED, -0.5, 0.7)],
    ),
    "hardsigmoid nn.functional.hardsigmoid": (
        lambda x: torch.where((x > -3) & (x < 3), torch.full_like(x, 1 / 6), 0.0),
        [call(t(3, 4, low=-4, high=4))],
    ),
    "hardshrink": (
        lambda x, lambd=0.5: (x > lambd) | (x < -lambd),
        [call(SIGNED), call(SIGNED, 0.8)],
    ),
    "softshrink": (
        lambda x, lambd=0.5: (x > lambd) | (x < -lambd),
        [call(SIGNED), call(SIGNED, 0.8)],
    ),
    "abs __abs__ absolute": (lambda x: torch.sgn(x), [call(SIGNED)]),
    "sgn": (lambda x: 0, [call(SIGNED)]),
    "nan_to_num": (
        lambda x, nan=None, posinf=None, neginf=None: torch.isfinite(x),
        [call(SIGNED)],
    ),
    "frac": (lambda x: 1, [call(SIGNED)]),
    "neg __neg__ negative": (lambda x: -1, [call(SIGNED)]),
    "positive __pos__": (lambda x: 1, [call(SIGNED)]),
}

# two operands
TWO: dict[str, tuple[Callable, list]] = {
    "maximum": (_larger("maximum", 1), [call(SIGNED, SIGNED), call(SIGNED, t(4))]),
    "minimum": (_larger("minimum", -1), [call(SIGNED, SIGNED), call(SIGNED, t(4))]),
    "fmax": (_larger("fmax", 1, skips_nan=True), [call(SIGNED, SIGNED)]),
    "fmin": (_larger("fmin", -1, skips_nan=True), [call(SIGNED, SIGNED)]),
    "remainder __mod__": (
        lambda x, y: (1, -torch.floor(torch.div(x, y))),
        [call(SIGNED, t(4)), call(SIGNED, 0.7)],
    ),
    "fmod": (
        lambda x, y: (1, -torch.trunc(torch.div(x, y))),
        [call(SIGNED, t(4)), call(SIGNED, 0.7)],
    ),
    "nextafter": (
        lambda x, y: (x != y, 0),
        [call(SIGNED, SIGNED)],
    ),
    "copysign": (
        lambda x, y: torch.sgn(x) * torch.where(torch.signbit(torch.as_tensor(y)), -1.0, 1.0),
        [call(SIGNED, SIGNED), call(SIGNED, -1.0)],
    ),
}


def _direction(rule: Callable) -> Callable:
    """The sign of a complex series turns with it."""

    def evaluate(func: Callable, args: tuple, kwargs: dict) -> Any:
        x = args[0] if args else kwargs["input"]
        if x.is_complex():
            return run(_away_from_zero, lambda z: z / torch.abs(z), x)
        return rule(func, args, kwargs)

    return evaluate


def _away_from_zero(body: Callable, z: Any) -> Any:
    """0 with all its derivatives at zero, as torch's autograd."""
    zero = z == 0
    return torch.where(zero, 0.0, body(torch.where(zero, 1.0, z)))


def _absolute(rule: Callable) -> Callable:
    """|z| of a complex series is the hypotenuse of its parts: not a piecewise linear function."""

    def evaluate(func: Callable, args: tuple, kwargs: dict) -> Any:
        x = args[0] if args else kwargs["input"]
        if x.is_complex():
            return run(_away_from_zero, lambda z: torch.hypot(z.real, z.imag), x)
        return rule(func, args, kwargs)

    return evaluate


for names, (slopes, samples) in ONE.items():
    rule = piecewise(slopes)
    if names.startswith("abs"):
        rule = _absolute(rule)
    if names == "sgn":
        rule = _direction(rule)
    rule = with_inplace_argument(rule)
    add_rule(names, "piecewise", "slope by the piece", rule, samples, in_place=in_place(rule))

for names, (slopes, samples) in TWO.items():
    rule = piecewise(slopes, names=("input", "other"))
    add_rule(names, "piecewise", "slope by the piece", rule, samples, in_place=in_place(rule))


def _clamp(func: Callable, args: tuple, kwargs: dict) -> Any:
    """A bound may be a number, a tensor, a series or None, by place or by name."""
    given = dict(zip(("input", "min", "max"), args, strict=False)) | kwargs
    return _BETWEEN(func, tuple(given.pop(name, None) for name in ("input", "min", "max")), given)


_BETWEEN = piecewise(_clamp_slopes, names=("input", "min", "max"))
BOUNDS: dict[str, tuple[Callable, list]] = {
    "clamp clip": (
        _clamp,
        [
            call(SIGNED, -0.5, 0.7),
            call(SIGNED, min=0.1),
            call(SIGNED, max=t(4)),
            call(SIGNED, t(4), SIGNED),
        ],
    ),
    "clamp_min": (
        piecewise(lambda x, min: _clamp_slopes(x, min)[:2], names=("input", "min")),
        [call(SIGNED, 0.1), call(SIGNED, t(4)), call(t(4), SIGNED)],
    ),
    "clamp_max": (
        piecewise(lambda x, max: _clamp_slopes(x, None, max)[::2], names=("input", "max")),
        [call(SIGNED, 0.1), call(SIGNED, t(4)), call(t(4), SIGNED)],
    ),
}
for names, (rule, samples) in BOUNDS.items():
    add_rule(names, "piecewise", "slope by the piece", rule, samples, in_place=in_place(rule))


def _reversed_remainder(input: Any, other: Any) -> Any:
    return torch.remainder(other, input)


def _prelu(input: Any, weight: Any) -> Any:
    if weight.numel() > 1 and input.ndim > 1:
        weight = weight.reshape((-1,) + (1,) * (input.ndim - 2))
    slope = weight.reshape(()) if input.ndim == 0 else weight
    return torch.where(input > 0, input, slope * input)


def _rrelu(
    input: Any,
    lower: float = 1.0 / 8,
    upper: float = 1.0 / 3,
    training: bool = False,
    inplace: bool = False,
) -> Any:
    if not training:
        return F.leaky_relu(input, (lower + upper) / 2)
    # the slopes that torch draws for the value, from the same random numbers
    value = input.detach()
    drawn = torch.rrelu(value, lower, upper, True) / torch.where(value >= 0, 1.0, value)
    return torch.where(input >= 0, input, drawn * input)


for names, body, samples in (
    ("prelu", _prelu, [call(SIGNED, t(1)), call(SIGNED, t(4))]),
    ("rrelu nn.functional.rrelu", _rrelu, [call(SIGNED)]),
):
    rule = with_inplace_argument(composite(body))
    add_rule(names, "composite", "torch code", rule, samples, in_place=in_place(rule))
add_rule(
    "__rmod__", "composite", "torch code", composite(_reversed_remainder), [call(t(2, 3), 2.0)]
)


# --- reductions that pick -------------------------------------------------------------------------


def _evenly(func: Callable, args: tuple, kwargs: dict) -> Any:
    """``amax``, ``amin``, ``max()``: equal extreme entries share the slope equally."""
    (x,), others, kwargs = bind(func, ("input",), args, kwargs)
    series_among(func, (x,))
    frame = join(func, (x,))
    value = x._blocks[0]
    y0 = func(value, *others, **kwargs)
    axes = others[0] if others else kwargs.get("dim", ())
    keepdim = others[1] if len(others) > 1 else kwargs.get("keepdim", False)
    if axes == () or axes is None:
        axes = tuple(range(-value.ndim, 0))
    axes = (axes,) if isinstance(axes, int) else tuple(axes)
    axes = tuple(axis - value.ndim if axis >= 0 else axis for axis in axes)
    peak = y0
    if not keepdim:
        for axis in sorted(axis + value.ndim for axis in axes):
            peak = peak.unsqueeze(axis)
    hit = value == peak
    share = hit / hit.sum(axes, keepdim=True) if axes else hit.to(value.dtype)

    def shared_out(block: Any) -> Any:
        return (block * share).sum(axes, keepdim=keepdim) if axes else block * share

    return frame.wrap(each(shared_out, x._blocks, y0))


def _by_index(func: Callable, args: tuple, kwargs: dict) -> Any:
    """``(values, indices)``: every block is gathered by the indices of the value."""
    (x,), others, kwargs = bind(func, ("input",), args, kwargs)
    series_among(func, (x,))
    value = x.value
    picked = func(value, *others, **kwargs)
    axis = kwargs.get("dim", _AXIS_DEFAULT.get(getattr(func, "__name__", ""), -1))
    position = _AXIS_POSITION.get(getattr(func, "__name__", ""), 0)
    if len(others) > position:
        axis = others[position]
    keepdim = kwargs.get("keepdim", False)
    if len(others) > position + 1 and picked[1].ndim == value.ndim:
        keepdim = True
    index = picked[1]
    if value.ndim == 0:
        return type(picked)((run(torch.clone, x), index))
    reduced = index.ndim < value.ndim
    if reduced:
        index = index.unsqueeze(axis)
    values = run(torch.gather, x, axis, index)
    if reduced and not keepdim:
        values = run(torch.squeeze, values, axis)
    return type(picked)((values, picked[1]))


_AXIS_POSITION = {"topk": 1, "kthvalue": 1}
_AXIS_DEFAULT: dict[str, int] = {}


def _extreme(func: Callable, args: tuple, kwargs: dict) -> Any:
    """``max`` and ``min``: of all entries, along an axis, or of two tensors."""
    second = args[1] if len(args) > 1 else kwargs.get("other")
    if isinstance(second, torch.Tensor):
        pick = torch.maximum if func.__name__ == "max" else torch.minimum
        return run(pick, args[0], second)
    if len(args) == 1 and "dim" not in kwargs:
        return _evenly(func, args, kwargs)
    return _by_index(func, args, kwargs)


def _median(func: Callable, args: tuple, kwargs: dict) -> Any:
    if len(args) > 1 or "dim" in kwargs:
        return _by_index(func, args, kwargs)
    return _evenly(func, args, kwargs)


def _aminmax(input: Any, *, dim: int | None = None, keepdim: bool = False) -> Any:
    axes: Any = () if dim is None else dim
    low, high = torch.amin(input, axes, keepdim), torch.amax(input, axes, keepdim)
    return torch.return_types.aminmax((low, high))  # type: ignore[attr-defined]


def _msort(input: Any) -> Any:
    return torch.sort(input, 0).values


PICKS: dict[str, tuple[Callable, str, list]] = {
    "amax": (_evenly, "ties share", [call(SIGNED, 1), call(SIGNED, (0, 1)), call(SIGNED)]),
    "amin": (_evenly, "ties share", [call(SIGNED, 1, True), call(SIGNED, (0, 1))]),
    "max": (
        _extreme,
        "ties share, or by index",
        [call(SIGNED), call(SIGNED, 1), call(SIGNED, 0, True), call(SIGNED, SIGNED)],
    ),
    "min": (
        _extreme,
        "ties share, or by index",
        [call(SIGNED), call(SIGNED, 1), call(SIGNED, dim=0, keepdim=True), call(SIGNED, SIGNED)],
    ),
    "median": (_median, "by index", [call(SIGNED), call(SIGNED, 1)]),
    "nanmedian": (_median, "by index", [call(SIGNED), call(SIGNED, 1)]),
    "sort": (_by_index, "by index", [call(SIGNED), call(SIGNED, 0, True)]),
    "topk": (_by_index, "by index", [call(SIGNED, 2), call(SIGNED, 2, 0)]),
    "kthvalue": (_by_index, "by index", [call(SIGNED, 2), call(SIGNED, 2, 0, True)]),
    "mode": (_by_index, "by index", [call(SIGNED, 1)]),
    "cummax": (_by_index, "by index", [call(SIGNED, 1)]),
    "cummin": (_by_index, "by index", [call(SIGNED, 1)]),
}
for names, (evaluate, says, samples) in PICKS.items():
    add_rule(names, "selection", says, evaluate, samples)
add_rule("aminmax", "composite", "amin, amax", composite(_aminmax), [call(SIGNED, dim=1)])
add_rule("msort", "composite", "sort along axis 0", composite(_msort), [call(SIGNED)])
