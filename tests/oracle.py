"""Independent derivations that the tests compare with.

``along`` (``taylortorch/testing/oracles.py``) differentiates ``t -> f(x(t))`` by reverse mode over
reverse mode, in float64, contracted with random weights; nested forward mode is never used (it is
wrong for many functions). ``faa_di_bruno`` is the composition formula over integer partitions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from taylortorch.testing.oracles import along, contracted

__all__ = ["along", "contracted", "differences", "faa_di_bruno", "partitions"]


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


def differences(
    f: Callable[[list[torch.Tensor]], torch.Tensor],
    paths: Sequence[Sequence[torch.Tensor]],
    order: int,
    steps: Sequence[float] = (2e-2, 5.7e-3, 1.6e-3),
) -> tuple[torch.Tensor, torch.Tensor]:
    """``d^k/dt^k f(x(t))`` at ``t = 0`` for k = 0 ... order, entry by entry, and their errors.

    Derivatives of the polynomial through nine points of the path, ``f`` a vector of float64. The
    error is the difference between two step sizes: it is large at a kink or a jump for some
    ``k <= order``, so an entry is smooth where all of them are small.
    """
    nodes = torch.arange(-4, 5, dtype=torch.float64)
    powers = torch.arange(9)
    factorials = torch.tensor([math.factorial(k) for k in range(order + 1)])
    stencil = torch.linalg.inv(nodes[:, None] ** powers)[: order + 1] * factorials[:, None]

    def at(t: float) -> torch.Tensor:
        return f([sum((c * t**k for k, c in enumerate(p[1:], 1)), p[0].clone()) for p in paths])

    best: Any = None
    previous: Any = None
    with torch.no_grad():
        middle = at(0.0)
        for h in steps:
            rows = torch.stack([at(float(n) * h) if n else middle for n in nodes])
            scales = torch.tensor([h**k for k in range(order + 1)], dtype=torch.float64)
            found = (stencil @ rows) / scales[:, None]
            if previous is not None:
                error = (found - previous).abs().nan_to_num(math.inf)
                if best is not None:
                    better = error.sum(0) < best[1].sum(0)
                    pairs = zip((previous, error), best, strict=True)
                    best = tuple(torch.where(better, new, old) for new, old in pairs)
                else:
                    best = previous, error
                if (best[1] <= 1e-7 * (1 + best[0].abs())).all():
                    break
            previous = found
    return best
