"""Independent derivations that the tests compare with.

``along`` differentiates ``t -> f(x(t))`` by reverse mode over reverse mode, in float64, contracted
with random weights; nested forward mode is never used (it is wrong for many functions).
``faa_di_bruno`` is the composition formula over integer partitions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch


def along(
    f: Callable[[list[torch.Tensor]], Sequence[torch.Tensor]],
    paths: Sequence[Sequence[torch.Tensor]],
    order: int,
    weights: Sequence[torch.Tensor],
) -> list[torch.Tensor]:
    """``d^k/dt^k`` at ``t = 0`` of ``sum(weights * f(x(t)))``, k = 0 ... order.

    ``paths`` are the Taylor coefficients of each argument.
    """
    t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    arguments = [
        sum((c * t**k for k, c in enumerate(path[1:], 1)), path[0] + 0 * t) for path in paths
    ]
    outputs = f(arguments)
    total = sum(
        (o * w).sum() if not o.is_complex() else (o.real * w.real + o.imag * w.imag).sum()
        for o, w in zip(outputs, weights, strict=True)
    )
    result = [total]
    for _ in range(order):
        if not result[-1].requires_grad:
            result.append(torch.zeros_like(total))
            continue
        (derivative,) = torch.autograd.grad(
            result[-1], t, create_graph=True, materialize_grads=True
        )
        result.append(derivative)
    return result


def contracted(outputs: Sequence[Any], weights: Sequence[torch.Tensor], k: int) -> torch.Tensor:
    """The k-th derivative of the same weighted sum, from the coefficients of TaylorTensors."""
    total = torch.zeros((), dtype=torch.float64)
    for o, w in zip(outputs, weights, strict=True):
        # an output that no series reached is a constant
        c = o.coeffs[k] if hasattr(o, "coeffs") else (o if k == 0 else torch.zeros_like(o))
        part = (c * w).sum() if not c.is_complex() else (c.real * w.real + c.imag * w.imag).sum()
        total = total + part * math.factorial(k)
    return total


def partitions(n: int, largest: int | None = None) -> Iterator[dict[int, int]]:
    """The integer partitions of ``n``, as {part: multiplicity}."""
    if n == 0:
        yield {}
        return
    for part in range(min(n, largest or n), 0, -1):
        for rest in partitions(n - part, part):
            counted = dict(rest)
            counted[part] = counted.get(part, 0) + 1
            yield counted


def faa_di_bruno(f: Sequence[Any], x: Sequence[Any]) -> list[Any]:
    """The coefficients of ``f(x(t))`` from ``f_m = f^(m)(x_0) / m!`` and ``x_k``.

    ``y_k = sum over partitions of k of m! f_m prod_j x_j^{m_j} / m_j!`` with m the number of parts.
    """
    result = [f[0]]
    for k in range(1, len(x)):
        total: Any = 0
        for partition in partitions(k):
            parts = sum(partition.values())
            term = f[parts] * math.factorial(parts)
            for part, multiplicity in partition.items():
                term = term * x[part] ** multiplicity / math.factorial(multiplicity)
            total = total + term
        result.append(total)
    return result
