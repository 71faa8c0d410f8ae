"""The growth of the error with the degree, to order 20."""

from __future__ import annotations

import dataclasses
import itertools
import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import mpmath as mp
import torch
import torch.nn.functional as F

import taylortorch as tt

from .domains import draw
from .exact import Exact, from_slope, settled
from .functions import (
    bessel,
    cos,
    erfc,
    exp,
    lgamma,
    log,
    mish,
    normal,
    sigmoid,
    sin,
    softplus,
    tanh,
)

HIGH = 20


@dataclasses.dataclass(frozen=True)
class Long:
    """A function expanded to order ``HIGH`` at points of an interval."""

    name: str
    call: Callable
    reference: Callable
    low: float
    high: float
    points: int = 16


def _network() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = (1, 8, 8, 8, 1)
    return [
        torch.randn(wide, deep, generator=generator, dtype=torch.float64) / math.sqrt(deep)
        for deep, wide in itertools.pairwise(sizes)
    ]


def network(x: torch.Tensor) -> torch.Tensor:
    """A tanh network with three hidden layers of eight."""
    first, *rest = _network()
    y = F.linear(x.unsqueeze(-1), first)
    for weight in rest:
        y = F.linear(torch.tanh(y), weight)
    return y.squeeze(-1)


def exact_network(x: Exact) -> Exact:
    first, *rest = _network()
    layer = [x * mp.mpf(w) for w in first[:, 0].tolist()]
    for weight in rest:
        hidden = [tanh(unit) for unit in layer]
        layer = [
            sum((unit * mp.mpf(w) for w, unit in zip(row, hidden, strict=True)), 0 * x)
            for row in weight.tolist()
        ]
    return layer[0]


def chain(x: Any) -> Any:
    """A continued fraction of six divisions."""
    y = 1 + x
    for _ in range(6):
        y = 1 + x / y
    return y


def softmax(x: torch.Tensor) -> torch.Tensor:
    return torch.softmax(torch.stack([x, torch.sin(x), 0 * x], -1), -1)[..., 0]


def exact_softmax(x: Exact) -> Exact:
    return exp(x) / (exp(x) + exp(sin(x)) + 1)


LONG = [
    Long("exp", torch.exp, exp, -2, 2),
    Long("sin", torch.sin, sin, -2, 2),
    Long("tan", torch.tan, lambda x: sin(x) / cos(x), -1.2, 1.2),
    Long("tanh", torch.tanh, tanh, -2, 2),
    Long("sigmoid", torch.sigmoid, sigmoid, -2, 2),
    Long("log", torch.log, log, 0.5, 2),
    Long("sqrt", torch.sqrt, lambda x: x**0.5, 0.5, 2),
    Long("1 / x", lambda x: 1 / x, lambda x: 1 / x, 0.5, 2),
    Long("x**2.5", lambda x: x**2.5, lambda x: x**2.5, 0.5, 2),
    Long("atan", torch.atan, from_slope(mp.atan, lambda x: 1 / (1 + x**2)), -2, 2),
    Long("asinh", torch.asinh, from_slope(mp.asinh, lambda x: (1 + x**2) ** -0.5), -2, 2),
    Long("erf", torch.erf, lambda x: 1 - erfc(x), -2, 2),
    Long("erfcx", torch.special.erfcx, lambda x: exp(x**2) * erfc(x), -2, 4),
    Long("log_ndtr", torch.special.log_ndtr, lambda x: log(normal(x)), -6, 2),
    Long("gelu", F.gelu, lambda x: x * normal(x), -2, 2),
    Long("silu", F.silu, lambda x: x * sigmoid(x), -2, 2),
    Long("softplus", F.softplus, softplus, -2, 2),
    Long("mish", F.mish, mish, -2, 2),
    Long("lgamma", torch.lgamma, lgamma, 0.5, 5),
    Long("bessel_j0", torch.special.bessel_j0, bessel("j", 0), -2, 2),
    Long("sinc", torch.sinc, lambda x: sin(x * mp.pi) / (x * mp.pi), 0.1, 3),
    Long("softmax", softmax, exact_softmax, -2, 2, 8),
    Long("six divisions", chain, chain, 0.5, 2),
    Long("tanh network", network, exact_network, -1, 1, 3),
]


def envelope(coeffs: Sequence[Any]) -> list[Any]:
    """``min over r of max_j |c_j| r^(j - k)``: the scale that Cauchy's estimate gives ``c_k``.

    The least concave sequence above ``log |c_j|``.
    """
    logs = [(j, mp.log(abs(c))) for j, c in enumerate(coeffs) if c]
    result = []
    for k in range(len(coeffs)):
        best = max((b for j, b in logs if j == k), default=mp.mpf("-inf"))
        for i, a in logs:
            for j, b in logs:
                if i < k < j:
                    best = max(best, a + (b - a) * (k - i) / (j - i))
        result.append(mp.exp(best))
    return result


def long_errors(case: Long, points: int | None = None) -> tuple[list[float], list[float]]:
    """Per degree the largest error, in multiples of 2^-52, of ``c_k`` and of its scale."""
    generator = torch.Generator().manual_seed(zlib.crc32(case.name.encode()))
    count = min(points or case.points, case.points)
    x = draw(f"[{case.low:g}, {case.high:g}]", 64, generator)[:count].clone()
    coeffs = [c.tolist() for c in case.call(tt.TaylorTensor(x, order=HIGH)).coeffs]
    relative, scaled = [0.0] * (HIGH + 1), [0.0] * (HIGH + 1)
    unit = mp.ldexp(1, -52)
    for n in range(count):
        truth = settled(case.reference, [float(x[n])], [1.0], HIGH + 2)
        scales = envelope(truth)
        for k in range(HIGH + 1):
            error = abs(mp.mpf(coeffs[k][n]) - truth[k]) / unit
            relative[k] = max(relative[k], float(error / abs(truth[k])))
            scaled[k] = max(scaled[k], float(error / scales[k]))
    return relative, scaled
