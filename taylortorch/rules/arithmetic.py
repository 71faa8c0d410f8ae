"""Addition, multiplication, division and powers, by hand: they are hot, and have operators."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..algebra import series
from ..algebra.series import by_degree, each
from ..engine.arguments import aligned, bind, is_constant, series_among
from ..engine.frames import Frame, join
from ..engine.kinds import composite, constant, in_place
from ..engine.registry import add_rule
from ..engine.samples import call, t
from ..engine.tensor import TaylorTensor, run

PAIR = ("input", "other")


def operands_of(
    func: Callable, names: Sequence[str], args: tuple, kwargs: dict
) -> tuple[list, tuple, dict, Frame]:
    """The blocks of each operand in their common frame, the other arguments, the frame."""
    operands, others, kwargs = bind(func, names, args, kwargs)
    frame = join(func, series_among(func, operands), by_entry=True)
    return [frame.blocks(x) for x in operands], others, kwargs, frame


def finished(blocks: Sequence[Any], frame: Frame) -> TaylorTensor:
    """The TaylorTensor of blocks that a type promotion may have left behind the value's dtype."""
    dtype = blocks[0].dtype
    cast = each(lambda b: b if b.dtype == dtype else b.to(dtype), blocks, blocks[0])
    return frame.wrap(cast)


def _linear_combination(sign_a: float, sign_b: float, alpha_on: int) -> Callable:
    """``sign_a * a + sign_b * b``, with the keyword ``alpha`` multiplying operand ``alpha_on``."""

    def evaluate(func: Callable, args: tuple, kwargs: dict) -> Any:
        (x, y), others, kwargs, frame = operands_of(func, PAIR, args, kwargs)
        y0 = func(x[0], y[0], *others, **kwargs)
        alpha = kwargs.get("alpha", 1)
        factors = [sign_a, sign_b]
        factors[alpha_on] *= alpha
        x, y = aligned(x, y0.ndim, frame.structure), aligned(y, y0.ndim, frame.structure)

        def term(_: Any, k: int) -> Any:
            return series.total((series.times(x[k], factors[0]), series.times(y[k], factors[1])))

        return finished(by_degree(y0, len(x) - 1, term, x, y), frame)

    return evaluate


def multiply(func: Callable, args: tuple, kwargs: dict) -> Any:
    (x, y), others, kwargs, frame = operands_of(func, PAIR, args, kwargs)
    y0 = func(x[0], y[0], *others, **kwargs)
    x, y = aligned(x, y0.ndim, frame.structure), aligned(y, y0.ndim, frame.structure)
    if len(args) > 1 and args[0] is args[1]:
        return finished(series.square(frame.structure, x, y0), frame)
    return finished(series.cauchy(frame.structure, x, y, y0), frame)


def _divide(y0: torch.Tensor, x: Sequence, d: Sequence, frame: Frame) -> Any:
    x, d = aligned(x, y0.ndim, frame.structure), aligned(d, y0.ndim, frame.structure)
    return finished(series.divide(frame.structure, y0, x, d), frame)


def divide(func: Callable, args: tuple, kwargs: dict) -> Any:
    if kwargs.get("rounding_mode") is not None:
        return constant(func, args, kwargs)
    (x, d), others, kwargs, frame = operands_of(func, PAIR, args, kwargs)
    return _divide(func(x[0], d[0], *others, **kwargs), x, d, frame)


def reversed_divide(func: Callable, args: tuple, kwargs: dict) -> Any:
    (d, x), _, _, frame = operands_of(func, PAIR, args, kwargs)
    # a tensor over a series comes here too, because the series is of a subclass; a number over a
    # tensor is this product in torch
    own = torch.div(x[0], d[0]) if isinstance(x[0], torch.Tensor) else torch.reciprocal(d[0]) * x[0]
    return _divide(own, x, d, frame)


def square(func: Callable, args: tuple, kwargs: dict) -> Any:
    (x,), _, _, frame = operands_of(func, PAIR[:1], args, kwargs)
    return frame.wrap(series.square(frame.structure, x, func(x[0])))


def sqrt(func: Callable, args: tuple, kwargs: dict) -> Any:
    (x,), _, _, frame = operands_of(func, PAIR[:1], args, kwargs)
    return frame.wrap(series.square_root(frame.structure, func(x[0]), x))


def rsqrt(func: Callable, args: tuple, kwargs: dict) -> Any:
    (x,), _, _, frame = operands_of(func, PAIR[:1], args, kwargs)
    return frame.wrap(series.power(frame.structure, func(x[0]), x, -0.5))


def power(func: Callable, args: tuple, kwargs: dict) -> Any:
    """``x**p``: right at ``x_0 = 0`` wherever the derivative exists there."""
    (x, p), rest, _, frame = operands_of(func, ("input", "exponent"), args, kwargs)
    return _power(torch.pow(x[0], p[0], *rest), x, p, frame)


def reversed_power(func: Callable, args: tuple, kwargs: dict) -> Any:
    (p, x), _, _, frame = operands_of(func, ("input", "exponent"), args, kwargs)
    return _power(torch.pow(x[0], p[0]), x, p, frame)


def _power(y0: torch.Tensor, x: Sequence, p: Sequence, frame: Frame) -> Any:
    if is_constant(p):
        exponent = p[0]
        if isinstance(exponent, torch.Tensor):
            blocks = _power_of_tensor(y0, x, exponent, frame)
        else:
            blocks = _power_of_number(y0, x, exponent, frame)
    elif is_constant(x):
        blocks = _exponential(y0, x[0], p, frame)
    else:
        blocks = _general_power(y0, x, p, frame)
    return finished(blocks, frame)


def _power_of_number(y0: Any, x: Sequence, p: Any, frame: Frame) -> Sequence:
    order = len(x) - 1
    whole = not isinstance(p, complex) and float(p).is_integer()
    if whole and p >= 0:
        if p == 0:
            return [y0] + [None] * order
        return series.integer_power(frame.structure, x, int(p), y0)
    if p == 0.5:
        return series.square_root(frame.structure, y0, x)
    if isinstance(p, complex) or p < 0:
        return series.power(frame.structure, y0, x, p)
    falling = 1.0
    f = [y0]
    for j in range(1, order + 1):
        falling *= (p - j + 1) / j
        f.append(falling * torch.pow(x[0], p - j))
    return series.compose(frame.structure, f, x)


def _power_of_tensor(y0: Any, x: Sequence, p: torch.Tensor, frame: Frame) -> Sequence:
    """Binomial coefficients that vanish (an integer exponent below the order) give exact 0."""
    order = len(x) - 1
    falling: Any = 1.0
    f = [y0]
    for j in range(1, order + 1):
        falling = falling * (p - (j - 1)) / j
        # only where 0 * inf would follow: the gradient in p needs the power itself
        gone = (falling == 0) & ~torch.isfinite(torch.pow(x[0], p - j))
        exponent = torch.where(gone, torch.zeros_like(p), p - j)
        f.append(falling * torch.pow(x[0], exponent))
    return series.compose(frame.structure, f, aligned(x, y0.ndim, frame.structure))


def _exponential(y0: Any, base: Any, p: Sequence, frame: Frame) -> Sequence:
    """``base**p`` with a constant base; as in torch, the slope at base 0 is 0 for ``p >= 0``."""
    if isinstance(base, torch.Tensor):
        dead = (base == 0) & (p[0] >= 0) if not base.is_complex() else base == 0
        log: Any = torch.where(dead, torch.zeros_like(base), torch.log(torch.where(dead, 1, base)))
        exponents = each(lambda b: b * log, aligned(p, y0.ndim, frame.structure), None)
    else:
        log = math.log(base) if base > 0 else (0.0 if base == 0 else math.nan)
        exponents = each(lambda b: series.times(b, log), p, None)
    return series.ode(frame.structure, y0, exponents, 0, 1, 0)


def _general_power(y0: Any, x: Sequence, p: Sequence, frame: Frame) -> Sequence:
    """``exp(p log x)``; where ``x_0 = 0`` the exponent is taken as the constant ``p_0``."""
    zero = x[0] == 0
    safe = each(lambda b: b, x, torch.where(zero, torch.ones_like(x[0]), x[0]))
    base, exponent = frame.wrap(safe), frame.wrap(p)
    exponents = run(lambda: torch.log(base) * exponent)._blocks
    y = series.ode(frame.structure, y0, exponents, 0, 1, 0)
    at_zero = _power_of_tensor(y0, x, p[0], frame)

    def term(_: Sequence, k: int) -> Any:
        if y[k] is None and at_zero[k] is None:
            return None
        none = y0.new_zeros(())
        return torch.where(
            zero, none if at_zero[k] is None else at_zero[k], none if y[k] is None else y[k]
        )

    return by_degree(y0, len(y) - 1, term, y, at_zero)


def _float_power(input: Any, exponent: Any) -> Any:
    def doubled(x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return x
        return x.to(torch.complex128 if x.is_complex() else torch.float64)

    return torch.pow(doubled(input), doubled(exponent))


SAMPLES = [call(t(2, 3), t(2, 3)), call(t(3), t(4, 2, 3)), call(t(2, 1, 3), 1.5)]
_add = _linear_combination(1, 1, alpha_on=1)
_sub = _linear_combination(1, -1, alpha_on=1)
_rsub = _linear_combination(-1, 1, alpha_on=0)


def _reversed_subtract(func: Callable, args: tuple, kwargs: dict) -> Any:
    return _rsub(torch.rsub, args, kwargs)


TABLE: dict[str, tuple[Callable, str, list]] = {
    "add __add__": (_add, "input + alpha*other", [*SAMPLES, call(t(3), t(3), alpha=2)]),
    "__radd__": (_add, "input + other", [call(t(2, 3), 1.5)]),
    "sub __sub__ subtract": (_sub, "input - alpha*other", [*SAMPLES, call(t(3), t(3), alpha=2)]),
    "rsub": (_rsub, "other - alpha*input", [call(t(2, 3), t(2, 3), alpha=2)]),
    "__rsub__": (_reversed_subtract, "other - input", [call(t(2, 3), 1.5)]),
    "mul __mul__ multiply": (multiply, "input * other", SAMPLES),
    "__rmul__": (multiply, "input * other", [call(t(2, 3), 1.5)]),
    "div __truediv__ divide true_divide __div__": (
        divide,
        "y * other = input",
        [*SAMPLES, call(t(2, 3), t(3), rounding_mode="floor")],
    ),
    "__rtruediv__": (reversed_divide, "y * input = other", [call(t(2, 3), 1.5)]),
    "square": (square, "input * input", [call(t(2, 3)), call(t(2, 3, low=0, high=0))]),
    "sqrt": (sqrt, "y * y = input", [call(t(2, 3))]),
    "rsqrt": (rsqrt, "x y' = -y x'/2", [call(t(2, 3))]),
    "pow __pow__": (
        power,
        "repeated squaring, the recurrence x y' = p y x', or exp(p log x)",
        [
            *(call(t(2, 3), p) for p in (0, 1, 2, 3, 7, -1, -2, 0.5, -0.5, 2.5, 2.0)),
            *(call(t(2, 3, low=0, high=0), p) for p in (1, 2, 3, 5)),
            call(t(2, 3), t(2, 3)),
            call(t(2, 1), t(3)),
        ],
    ),
    "__rpow__": (reversed_power, "exp(input log other)", [call(t(2, 3), 1.5)]),
}
for names, (evaluate, says, samples) in TABLE.items():
    add_rule(names, "by hand", says, evaluate, samples, in_place=in_place(evaluate))


def _ldexp(input: Any, other: Any) -> Any:
    return input * torch.pow(2.0, other)


for names, body, says, samples in (
    ("float_power", _float_power, "pow in float64", [call(t(2, 3), 2.5), call(t(2, 3), 2)]),
    ("ldexp", _ldexp, "input * 2**other", [call(t(2, 3), t(3))]),
):
    rule = composite(body)
    add_rule(names, "composite", says, rule, samples, in_place=in_place(rule))
