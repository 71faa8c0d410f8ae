"""Elementwise functions whose derivative is known in closed form: three numbers or one lambda each.

``ODE``: the derivative is a quadratic in the result. ``SLOPE``: the derivative is a function of the
arguments, in plain torch code, one lambda per argument that can be a series. To add a function, add
a row: its tests, its line in ``docs/ops.md`` and its entry in ``supported()`` follow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from ..algebra import series
from ..algebra.series import each
from ..algebra.streams import Stream
from ..engine.arguments import bind, series_among
from ..engine.frames import Frame, frame_of, join
from ..engine.kinds import composite, elementwise, in_place, ode, piecewise, slope
from ..engine.kinds import with_inplace_argument as inplace_argument
from ..engine.registry import add_rule
from ..engine.samples import Sample, call, t
from ..engine.tensor import TaylorTensor, run
from .bodies import own_body

LN2, LN10 = math.log(2.0), math.log(10.0)
ROOT_HALF, ROOT_2PI = math.sqrt(0.5), math.sqrt(2 * math.pi)
TWO_OVER_ROOT_PI, HALF_ROOT_PI = 2 / math.sqrt(math.pi), math.sqrt(math.pi) / 2

# --- y' = (a + b y + c y**2) x' ------------------------------------------------------------------
# then a better first slope where this one cancels, and torch's own product with it

ODE: dict[str, tuple] = {
    "exp": (0, 1, 0),
    "expm1 special.expm1": (1, 1, 0, lambda x, y: torch.exp(x)),
    "tanh": (1, 0, -1, None, torch.ops.aten.tanh_backward.default),
    "sigmoid special.expit": (0, 1, -1, lambda x, y: y * torch.sigmoid(-x)),
    "tan": (1, 0, 1),
    "reciprocal": (0, 0, -1),
}

# --- y' = sum of g_i x_i' ------------------------------------------------------------------------


def _with_value(y: Any, f: Callable, x: Any) -> Any:
    """The series ``y`` with the value ``f(x_0)``: the same to rounding, but without its error."""
    value = run(f, x._blocks[0])
    return frame_of(y).wrap(each(lambda block: block, y._blocks, value))


def _within(x: Any, limit: float) -> Any:
    """The series with its value moved to ``limit`` (or ``-limit``) where it lies beyond.

    For slopes whose own derivatives all round to 0 there: at infinity, and where ``x**3``
    overflows, they would be 0 times infinity.
    """
    if isinstance(x, TaylorTensor):
        return _with_value(x, lambda value: _within(value, limit), x)
    return x if x.is_complex() else torch.clamp(x, -limit, limit)


def _one_minus_square(x: Any) -> Any:
    """``1 - x^2``. Its value cancels near 1; that of ``(1 - x) (1 + x)`` does not, but the
    derivatives of this product cancel near 0."""
    if isinstance(x, TaylorTensor):
        return _with_value(1 - torch.square(x), _one_minus_square, x)
    return (1 - x) * (1 + x)


def _distance(x: Any, y: Any) -> Any:
    """From the origin; infinite there, where torch's slopes of the angle are 0."""
    r = torch.hypot(x, y)
    return torch.where(r == 0, math.inf, r)


def _over_square(x: Any, r: Any) -> Any:
    return x / r / r


def _sigmoids(x: Any) -> tuple[Any, Any]:
    """``sigmoid(x)`` and ``sigmoid(-x)``: 1 less the first, whose value cancels."""
    up = torch.sigmoid(x)
    if isinstance(x, TaylorTensor):
        return up, _with_value(1 - up, lambda value: torch.sigmoid(-value), x)
    return up, torch.sigmoid(-x)


def _asinh_slope(x: Any) -> Any:
    """``(1 + x^2)^(-1/2)``, also where ``x^2`` overflows."""
    if x.is_complex():
        return torch.rsqrt(1 + torch.square(x))
    return 1 / torch.hypot(x, torch.ones((), dtype=x.dtype, device=x.device))


def _gelu_slope(x: Any, approximate: str = "none") -> Any:
    if approximate == "none":
        x = _within(x, 50.0)
        bell = torch.exp(-0.5 * torch.square(x))
        return torch.addcmul(0.5 * torch.erfc(-ROOT_HALF * x), x, bell, value=1 / ROOT_2PI)
    x = _within(x, 30.0)
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    inner_slope = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)
    # (1 + tanh(u)) / 2 = sigmoid(2u), which keeps its accuracy in the tail
    up, down = _sigmoids(2 * inner)
    return up + 2 * x * up * down * inner_slope


def _softplus_slope(x: Any, beta: float = 1, threshold: float = 20) -> Any:
    return torch.where(x * beta > threshold, 1.0, torch.sigmoid(x * beta))


def _elu_slope(x: Any, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Any:
    below = alpha * scale * input_scale * torch.exp(torch.where(x < 0, x, 0.0) * input_scale)
    return torch.where(x > 0, scale, below)


def _celu_slope(x: Any, alpha: float = 1.0) -> Any:
    return torch.where(x > 0, 1.0, torch.exp(torch.where(x < 0, x, 0.0) / alpha))


def _silu_slope(x: Any) -> Any:
    x = _within(x, 1000.0)
    up, down = _sigmoids(x)
    return torch.addcmul(up, up, x * down)


def _silu_closed(n: int, x: Any) -> list:
    x = _within(x, 1000.0)
    up, down = torch.sigmoid(x), torch.sigmoid(-x)
    d = up * down
    f = [torch.addcmul(up, x, d)]
    if n > 1:
        odd = down - up
        f.append((x * odd + 2) * d)
    if n > 2:
        f.append((3 * odd + x * (1 - 6 * d)) * d)
    return f


def _gelu_closed(n: int, x: Any, approximate: str = "none") -> list | None:
    if approximate != "none":
        return None
    x = _within(x, 50.0)
    square = x * x
    bell = torch.exp(-0.5 * square) * (1 / ROOT_2PI)
    f = [torch.addcmul(0.5 * torch.erfc(-ROOT_HALF * x), x, bell)]
    if n > 1:
        f.append((2 - square) * bell)
    if n > 2:
        f.append((square - 4) * (x * bell))
    return f


def _softplus_closed(n: int, x: Any, beta: float = 1, threshold: float = 20) -> list:
    scaled = x if beta == 1 else x * beta
    above = scaled > threshold
    up = torch.sigmoid(scaled)
    f = [torch.where(above, 1.0, up)]
    if n > 1:
        down = torch.sigmoid(-scaled)
        d = torch.where(above, 0.0, up * down)
        f.append(series.times(d, beta))
    if n > 2:
        f.append(series.times(d * (down - up), beta * beta))
    return f


def _mish_slope(x: Any) -> Any:
    x = _within(x, 1000.0)
    up, down = _sigmoids(x)
    share = 1 / (1 + down * down)
    # tanh(softplus(x)), in the form that does not cancel on this side
    gate = torch.where(x > 0, 1 - 2 * down * down * share, up * (1 + down) * share)
    return gate + 4 * x * up * torch.square(down * share)


def _hardswish_slope(x: Any) -> Any:
    return torch.where(x <= -3, 0.0, torch.where(x < 3, x / 3 + 0.5, 1.0))


BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)


def _trigamma(x: Any) -> Any:
    """``polygamma(1, x)``, of which torch's own keeps ten digits.

    The asymptotic series (DLMF 5.15.8) at ``x + 10``, ten steps down (5.15.5), and reflection
    (5.15.6) to the left.
    """
    left = x < 0
    z = torch.where(left, 1 - x, x)
    u = 1 / (z + 10)
    v = torch.square(u)
    tail: Any = 0.0
    for number in reversed(BERNOULLI):
        tail = tail * v + number
    total = u + v * (0.5 + u * tail)
    for step in range(9, -1, -1):
        total = total + torch.square(1 / (z + step))
    angle = math.pi * torch.where(left, x - torch.round(x), 0.5)
    return torch.where(left, torch.square(math.pi / torch.sin(angle)) - total, total)


def _share(a: Any, b: Any, scale: float) -> Any:
    """``exp(a) / (exp(a) + exp(b))``; 1/2 where the two are the same infinity."""
    same = (a == b) & torch.isinf(a)
    difference = scale * torch.where(same, 0.0 * torch.nan_to_num(a), a - b)
    if not difference.is_complex():
        return torch.sigmoid(difference)
    # torch's sigmoid of a complex number overflows
    right = difference.real > 0
    smaller = torch.exp(torch.where(right, -difference, difference))
    return torch.where(right, 1.0, smaller) / (1 + smaller)


SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
AT_ZERO = call(t(2, 3, low=0, high=0))

SLOPE: dict[str, Any] = {
    "log": lambda x: 1 / x,
    "log2": lambda x: 1 / (LN2 * x),
    "log10": lambda x: 1 / (LN10 * x),
    "log1p special.log1p": lambda x: 1 / (1 + x),
    "asin arcsin": lambda x: torch.rsqrt(_one_minus_square(x)),
    "acos arccos": lambda x: -torch.rsqrt(_one_minus_square(x)),
    "atan arctan": lambda x: 1 / (1 + x * x),
    "asinh arcsinh": _asinh_slope,
    "acosh arccosh": lambda x: torch.rsqrt(x - 1) * torch.rsqrt(x + 1),
    "atanh arctanh": lambda x: 1 / _one_minus_square(x),
    "logit special.logit": lambda x, eps=None: (
        1 / (x * (1 - x))
        if eps is None
        else torch.where((x >= eps) & (x <= 1 - eps), 1 / (x * (1 - x)), 0.0)
    ),
    "erf special.erf": lambda x: TWO_OVER_ROOT_PI * torch.exp(-torch.square(_within(x, 40.0))),
    "erfc special.erfc": lambda x: -TWO_OVER_ROOT_PI * torch.exp(-torch.square(_within(x, 40.0))),
    "erfinv special.erfinv": lambda x: HALF_ROOT_PI * torch.exp(torch.erfinv(x) ** 2),
    "special.ndtr": lambda x: torch.exp(-0.5 * torch.square(_within(x, 50.0))) / ROOT_2PI,
    "special.ndtri": lambda x: ROOT_2PI * torch.exp(0.5 * torch.special.ndtri(x) ** 2),
    "special.entr": lambda x: -1 - torch.log(x),
    "lgamma special.gammaln": lambda x: torch.digamma(x),
    "digamma special.digamma special.psi": _trigamma,
    "logsigmoid": lambda x: torch.sigmoid(-x),
    "softplus": _softplus_slope,
    "gelu": _gelu_slope,
    "silu nn.functional.silu": _silu_slope,
    "mish nn.functional.mish": _mish_slope,
    "elu nn.functional.elu": _elu_slope,
    "celu nn.functional.celu": _celu_slope,
    "selu nn.functional.selu": lambda x: _elu_slope(x, SELU_ALPHA, SELU_SCALE),
    "hardswish nn.functional.hardswish": _hardswish_slope,
    "nn.functional.tanhshrink": lambda x: torch.square(torch.tanh(x)),
    "atan2 arctan2": (
        lambda y, x: _over_square(x, _distance(x, y)),
        lambda y, x: _over_square(-y, _distance(x, y)),
    ),
    "hypot": (lambda x, y: x / torch.hypot(x, y), lambda x, y: y / torch.hypot(x, y)),
    "logaddexp": (lambda a, b: _share(a, b, 1.0), lambda a, b: _share(b, a, 1.0)),
    "logaddexp2": (lambda a, b: _share(a, b, LN2), lambda a, b: _share(b, a, LN2)),
    "xlogy special.xlogy": (
        lambda x, y: (
            torch.where((x == 0) & (y <= 0), 0.0, torch.log(torch.where(y > 0, y, 1.0)))
            if isinstance(y, torch.Tensor)
            else math.log(y)
        ),
        lambda x, y: x / y,
    ),
    "special.xlog1py": (
        lambda x, y: torch.log1p(y) if isinstance(y, torch.Tensor) else math.log1p(y),
        lambda x, y: x / (1 + y),
    ),
}

# the first derivatives at a value, of functions in the inner layers of networks
CLOSED: dict[str, Callable] = {
    "silu": _silu_closed,
    "gelu": _gelu_closed,
    "softplus": _softplus_closed,
}

SAMPLES: dict[str, list[Sample]] = {
    "acosh": [call(t(2, 3, low=1.2, high=3.0))],
    "special.ndtri": [call(t(2, 3))],
    "softplus": [
        call(t(2, 3, low=-2, high=2)),
        call(t(2, 3, low=-2, high=2), beta=2.0),
        call(t(2, 3, low=19, high=22)),
        AT_ZERO,
    ],
    "gelu": [
        call(t(2, 3, low=-2, high=2)),
        call(t(2, 3, low=-2, high=2), approximate="tanh"),
        AT_ZERO,
    ],
    "elu": [call(t(2, 3, low=-1, high=1)), call(t(2, 3, low=-1, high=1), 0.7)],
    "celu": [call(t(2, 3, low=-1, high=1)), call(t(2, 3, low=-1, high=1), 0.7)],
    "logit": [call(t(2, 3)), call(t(2, 3), eps=0.3)],
    "hardswish": [call(t(2, 3, low=-4, high=4)), AT_ZERO],
    "digamma": [call(t(2, 3)), call(t(2, 3, low=-3.8, high=-3.2))],
}
SIGNED = [
    "tanh",
    "sigmoid",
    "exp",
    "expm1",
    "tan",
    "erf",
    "erfc",
    "atan",
    "asinh",
    "asin",
    "acos",
    "atanh",
    "erfinv",
    "logsigmoid",
    "silu",
    "mish",
    "selu",
    "special.ndtr",
    "nn.functional.tanhshrink",
]
PAIRS = [call(t(2, 3), t(2, 3)), call(t(3), t(4, 2, 3)), call(t(2, 1), t(3))]


def _samples(name: str, pair: bool) -> list[Sample]:
    if name in SAMPLES:
        return SAMPLES[name]
    if pair:
        return PAIRS
    if name in SIGNED:
        return [call(t(2, 3, low=-0.8, high=0.8)), AT_ZERO]
    return [call(t(2, 3))]


for names, numbers in ODE.items():
    evaluate = ode(*numbers)
    add_rule(
        names,
        "ode",
        f"y' = ({numbers[0]} + {numbers[1]} y + {numbers[2]} y^2) x'",
        evaluate,
        _samples(names.split()[0], pair=False),
        in_place=in_place(evaluate),
    )

for names, derivatives in SLOPE.items():
    pair = isinstance(derivatives, tuple)
    rule = slope(*derivatives) if pair else slope(derivatives, closed=CLOSED.get(names.split()[0]))
    evaluate = inplace_argument(rule)
    add_rule(
        names,
        "slope",
        "y' = g(x, other) (x', other')" if pair else "y' = g(x) x'",
        evaluate,
        _samples(names.split()[0], pair),
        in_place=in_place(evaluate),
    )

# --- pairs of equations, and the rest by hand ----------------------------------------------------


def _rotation(own: Callable, partner: Callable, sign: int, is_sine: bool) -> Callable:
    """sin, cos, sinh or cosh: each needs its partner's series to one degree less."""

    def slope(frame: Frame, x: Sequence, y: Sequence, order: int, *_: Any) -> list:
        first, s = partner(x[0]), frame.structure
        terms = [series.integrate_term(s, k, (x, y)) for k in range(1, order + 1)]
        return [first if is_sine else series.times(first, sign)] + [
            series.times(term, sign) for term in terms
        ]

    def forward(func: Callable, frame: Frame, x: Sequence, *_: Any) -> Sequence:
        s, order, y0 = frame.structure, frame.order, func(x[0])
        if order == 0:
            return (y0,)
        other = partner(x[0])
        if order < 3 and type(x) is not Stream:
            first = other if is_sine else series.times(other, sign)
            return series.along(s, [y0, first, series.times(y0, sign)][: order + 1], x)
        pair = (y0, other) if is_sine else (other, y0)
        sine, cosine = series.rotate(s, *pair, x, sign, is_sine)
        return sine if is_sine else cosine

    return elementwise(forward, slope)


for name, own, partner, sign, is_sine in (
    ("sin", torch.sin, torch.cos, -1, True),
    ("cos", torch.cos, torch.sin, -1, False),
    ("sinh", torch.sinh, torch.cosh, 1, True),
    ("cosh", torch.cosh, torch.sinh, 1, False),
):
    evaluate = _rotation(own, partner, sign, is_sine)
    add_rule(
        name,
        "pair",
        "s' = c x', c' = -s x'" if sign < 0 else "s' = c x', c' = s x'",
        evaluate,
        [call(t(2, 3, low=-2, high=2)), AT_ZERO],
        in_place=in_place(evaluate),
    )


def _exp2(func: Callable, args: tuple, kwargs: dict) -> Any:
    """The coefficients are formed between two factors ``2**(x/2)``: they can be finite where the
    value overflows."""
    (x,), _, _ = bind(func, ("input",), args, kwargs)
    series_among(func, (x,))
    frame = join(func, (x,), by_entry=True)
    value = x._blocks[0]
    half = torch.exp2(value / 2)
    exponents = each(lambda b: series.times(b, LN2), x._blocks, None)
    ratios = series.ode(frame.structure, torch.ones_like(half), exponents, 0, 1, 0)
    return frame.wrap(each(lambda b: b * half * half, ratios, func(value)))


add_rule(
    "exp2 special.exp2",
    "by hand",
    "y' = ln(2) y x'",
    _exp2,
    [call(t(2, 3, low=-2, high=2))],
    in_place=in_place(_exp2),
)


def _polygamma(func: Callable, args: tuple, kwargs: dict) -> Any:
    n, x = (*args, *kwargs.values())[:2]
    if isinstance(n, torch.Tensor) and not isinstance(x, torch.Tensor):
        # the method form: x.polygamma(n)
        n, x = x, n
    rule = slope(_trigamma if n == 0 else lambda x: torch.polygamma(n + 1, x))
    return rule(lambda x: torch.polygamma(n, x), (x,), {})


add_rule(
    "polygamma special.polygamma",
    "by hand",
    "y' = polygamma(n + 1, x) x'",
    _polygamma,
    [call(1, t(2, 3))],
    in_place=in_place(_polygamma),
)


def _sinc(input: Any) -> Any:
    """``sin(pi x) / (pi x)``, by its power series near 0 where the quotient cancels."""
    x = math.pi * input
    near = torch.abs(x) < 3.0
    z = torch.square(torch.where(near, x, 0.0))
    around_zero: Any = 0.0
    for n in range(24, -1, -1):
        around_zero = around_zero * z + (-1) ** n / math.factorial(2 * n + 1)
    away = torch.where(near, 4.0, x)
    return torch.where(near, around_zero, torch.sin(away) / away)


def _angle(input: Any) -> Any:
    """0 or pi for real numbers, whose slope is zero."""
    if input.is_complex():
        return torch.atan2(input.imag, input.real)
    return torch.where(input < 0, torch.full_like(input, math.pi), 0.0)


add_rule("angle", "composite", "atan2(imag, real)", composite(_angle), [call(t(2, 3))])


def sinc(func: Callable, args: tuple, kwargs: dict) -> Any:
    """The coefficients are those of ``_sinc``, the value is torch's."""
    (x,), _, _ = bind(func, ("input",), args, kwargs)
    return _with_value(run(_sinc, x), func, x)


add_rule(
    "sinc special.sinc",
    "by hand",
    "sin(pi x) / (pi x)",
    sinc,
    [call(t(2, 3, low=-2, high=2)), call(t(2, 3, low=-0.2, high=0.2))],
    in_place=in_place(sinc),
)


def _softsign(func: Callable, args: tuple, kwargs: dict) -> Any:
    """The quotient of complex numbers is not analytic: torch's own body for them."""
    x = args[0] if args else kwargs["input"]
    return (_SOFTSIGN_COMPLEX if x.is_complex() else _SOFTSIGN)(func, args, kwargs)


_SOFTSIGN = slope(lambda x: torch.square(1 / (1 + torch.abs(x))))
_SOFTSIGN_COMPLEX = composite(own_body(F.softsign))
add_rule(
    "nn.functional.softsign",
    "slope",
    "y' = g(x) x'",
    _softsign,
    [call(t(2, 3, low=-1, high=1)), AT_ZERO],
)

for name, factor in (("deg2rad", math.pi / 180), ("rad2deg", 180 / math.pi)):
    rule = piecewise(lambda x, factor=factor: factor)
    add_rule(name, "piecewise", "linear", rule, [call(t(2, 3))], in_place=in_place(rule))
