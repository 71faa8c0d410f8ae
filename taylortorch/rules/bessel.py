"""Bessel functions, in pairs that are each other's slopes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..algebra import series
from ..engine.arguments import bind, is_constant, series_among
from ..engine.frames import join
from ..engine.kinds import composite, in_place
from ..engine.registry import Evaluator, add_rule
from ..engine.samples import Sample, call, t
from ..engine.tensor import TaylorTensor, run

ROOT_HALF, ROOT_2PI = math.sqrt(0.5), math.sqrt(2 * math.pi)


class _Known(torch.autograd.Function):
    """An elementwise function with a derivative of ours, for one that torch has none of."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: torch.Tensor, function: Callable, derivative: Callable) -> torch.Tensor:
        return function(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        x, _, ctx.derivative = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, None, None]:
        (x,) = ctx.saved_tensors
        return grads[0] * ctx.derivative(x), None, None


def _known(function: Callable, derivative: Callable) -> Callable:
    def either(x: Any) -> Any:
        if isinstance(x, TaylorTensor) or not x.requires_grad:
            return function(x)
        return _Known.apply(x, function, derivative)

    return either


def _paired(values: Sequence[Callable], slopes: Sequence[Callable], which: int) -> Evaluator:
    """One of two functions whose derivatives are made of both: ``f' = g(x, f_0, f_1) x'``.

    Both series grow together, a degree at a time; each calling for the other's would take as many
    calls as there are Fibonacci numbers.
    """

    def evaluate(func: Callable, args: tuple, kwargs: dict) -> Any:
        (x,), _, _ = bind(func, ("input",), args, kwargs)
        series_among(func, (x,))
        frame = join(func, (x,), by_entry=True)
        blocks, order = x._blocks, frame.order
        if order == 0 or is_constant(blocks):
            return frame.constant(values[which](blocks[0]))
        starts = [value(blocks[0]) for value in values]
        grown: list[Any] = [(start,) for start in starts]
        for k in range(1, order + 1):
            lower, here = frame.truncated(k - 1), frame.truncated(k).structure
            known = [b[0] if k == 1 else lower.wrap(b) for b in (blocks[:k], *grown)]
            for n in (0, 1) if k < order else (which,):
                slope = lower.blocks(run(slopes[n], *known))
                grown[n] = tuple(series.integrate(here, starts[n], (blocks[: k + 1], slope)))
        return frame.wrap(grown[which])

    return evaluate


def _over_argument(x: Any, f: Any, sign: int, scaled: bool = False) -> Any:
    """``f(x) / x`` for J1 (sign -1) or I1 (sign 1), by the power series near 0.

    ``f(x) / x = 1/2 sum_k (sign x^2 / 4)^k / (k! (k + 1)!)`` (DLMF 10.2.2, 10.25.2).
    """
    near = torch.abs(x) < 4
    small = torch.where(near, x, 0.0)
    z = torch.square(small) * (sign / 4)
    total: Any = 0.0
    for k in range(24, -1, -1):
        total = total * z + 0.5 / (math.factorial(k) * math.factorial(k + 1))
    if scaled:
        total = total * torch.exp(-torch.abs(small))
    return torch.where(near, total, f / torch.where(near, 5.0, x))


FAR_I, FAR_K = (1 / ROOT_2PI, -1), (math.sqrt(math.pi / 2), 1)


def _is_far(x: Any) -> Any:
    """Where the asymptotic series of the scaled functions has all digits of the dtype."""
    return torch.abs(x) > (25 if x.dtype == torch.float64 else 12)


def _far_slope(x: Any, nu: int, first: float, sign: int) -> Any:
    """The slope of a scaled modified Bessel function at ``x > 0``, term by term.

    The function is ``first / sqrt(x) sum_k sign^k a_k / x^k`` (DLMF 10.40.1, 10.40.2). The
    difference of two functions that are almost equal, which the slope is as well, loses a factor
    ``2 x`` in accuracy with every order.
    """
    terms, a = [], first
    for k in range(30 if x.dtype == torch.float64 else 20):
        terms.append(-(k + 0.5) * a)
        a *= sign * (4 * nu * nu - (2 * k + 1) ** 2) / (8 * (k + 1))
    far = torch.where(_is_far(x), x, 25.0)
    u = 1 / far
    total: Any = 0.0
    for term in reversed(terms):
        total = total * u + term
    return total * u * torch.rsqrt(far)


SIGNED = t(2, 3, low=-3, high=3)


# torch 2.13's own J and Y are right to 1e-7 only between 3 and 10
NEAR = [call(t(2, 3, low=-2, high=2)), call(t(2, 3, low=-0.1, high=0.1))]


POSITIVE = [call(t(2, 3, low=0.5, high=2))]


# f_0, f_1; their derivatives from x, f_0(x), f_1(x); samples.
# J, Y: DLMF 10.6.3 and 10.6.2; I, K: 10.29.3 and 10.29.2; the scaled ones by the product rule
PAIRS: list[tuple[str, str, Callable, Callable, list[Sample]]] = [
    (
        "special.bessel_j0",
        "special.bessel_j1",
        lambda x, f, g: -g,
        lambda x, f, g: f - _over_argument(x, g, -1),
        NEAR,
    ),
    (
        "special.bessel_y0",
        "special.bessel_y1",
        lambda x, f, g: -g,
        lambda x, f, g: f - g / x,
        POSITIVE,
    ),
    (
        "i0 special.i0",
        "special.i1",
        lambda x, f, g: g,
        lambda x, f, g: f - _over_argument(x, g, 1),
        [call(SIGNED)],
    ),
    (
        "special.modified_bessel_i0",
        "special.modified_bessel_i1",
        lambda x, f, g: g,
        lambda x, f, g: f - _over_argument(x, g, 1),
        NEAR,
    ),
    (
        "special.i0e",
        "special.i1e",
        lambda x, f, g: torch.where(
            _is_far(x),
            torch.sgn(x) * _far_slope(torch.abs(x), 0, *FAR_I),
            g - torch.sgn(x) * f,
        ),
        lambda x, f, g: torch.where(
            _is_far(x),
            _far_slope(torch.abs(x), 1, *FAR_I),
            f - _over_argument(x, g, 1, True) - torch.sgn(x) * g,
        ),
        [call(SIGNED)],
    ),
    (
        "special.modified_bessel_k0",
        "special.modified_bessel_k1",
        lambda x, f, g: -g,
        lambda x, f, g: -f - g / x,
        POSITIVE,
    ),
    (
        "special.scaled_modified_bessel_k0",
        "special.scaled_modified_bessel_k1",
        lambda x, f, g: torch.where(_is_far(x), _far_slope(x, 0, *FAR_K), f - g),
        lambda x, f, g: torch.where(_is_far(x), _far_slope(x, 1, *FAR_K), g - f - g / x),
        POSITIVE,
    ),
]


def _with_gradients(names: Sequence[str], slopes: Sequence[Callable]) -> list[Callable]:
    """The two functions of a pair, in a form that torch can differentiate."""
    functions = [getattr(torch.special, name.split("special.")[-1]) for name in names]
    if names[1] in ("special.i1", "special.i1e"):
        return functions
    values: list[Callable] = []

    def derivative(n: int) -> Callable:
        return lambda x: slopes[n](x, values[0](x), values[1](x))

    values += [_known(function, derivative(n)) for n, function in enumerate(functions)]
    return values


for *both, first, second, samples in PAIRS:
    values = _with_gradients(both, (first, second))
    for which, names in enumerate(both):
        evaluate = _paired(values, (first, second), which)
        add_rule(
            names, "pair", "y' = g(x, y, z) x'", evaluate, samples, in_place=in_place(evaluate)
        )


def _spherical_bessel_j0(z: Any) -> Any:
    """``sin(z) / z`` (DLMF 10.49.3), by its power series near 0 where the quotient cancels; 0 at
    infinity."""
    near, beyond = torch.abs(z) < 3, torch.isinf(z)
    square = torch.square(torch.where(near, z, 0.0))
    total: Any = 0.0
    for n in range(24, -1, -1):
        total = total * square + (-1) ** n / math.factorial(2 * n + 1)
    away = torch.where(near | beyond, 4.0, z)
    return torch.where(near, total, torch.where(beyond, 0.0, torch.sin(away) / away))


add_rule(
    "special.spherical_bessel_j0",
    "composite",
    "sin(x) / x",
    composite(_spherical_bessel_j0),
    [call(SIGNED), call(t(2, 3, low=-0.2))],
)
