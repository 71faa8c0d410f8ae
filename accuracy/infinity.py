"""The derivatives at infinity, here and by torch's reverse mode over reverse mode."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch

import taylortorch as tt

from .cases import CASES

Limit = tuple[str, float, list[float], list[float]]
"""A function, the point, three derivatives here, and by torch."""


def by_torch(f: Callable, x: float, order: int) -> list[float]:
    """The derivatives by reverse mode over reverse mode; NaN where torch has none."""
    t = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    y: torch.Tensor = f(t)
    result: list[float] = []
    for _ in range(order):
        try:
            (y,) = torch.autograd.grad(y, t, create_graph=True)
        except RuntimeError:
            # a constant; or a function whose derivative has none
            unknown = 0.0 if result else math.nan
            return result + [unknown] * (order - len(result))
        result.append(y.item())
    return result


def by_series(f: Callable, x: float, order: int) -> list[float]:
    value = torch.tensor(x, dtype=torch.float64)
    return [d.item() for d in f(tt.TaylorTensor(value, order=order)).derivatives[1:]]


def at_infinity() -> Iterator[Limit]:
    """Those of the functions that have a value there."""
    for case in CASES:
        if len(case.curve) > 1:
            continue
        for x in (math.inf, -math.inf):
            value = case.call(torch.tensor(x, dtype=torch.float64))
            if not torch.isnan(value):
                yield case.name, x, by_series(case.call, x, 3), by_torch(case.call, x, 3)
