"""Taylor coefficients by means that know nothing of series: what rules are compared with.

Along a polynomial path ``x(t) = x_0 + c_1 t + ... + c_K t^K``, the coefficients of ``f(x(t))`` by

* **autograd**: ``t -> sum(w * f(x(t)))`` is differentiated by reverse mode over reverse mode, in
  float64; the entries are its gradient with respect to the weights ``w``. Nested forward mode is
  never used (it is wrong for many functions).
* **finite differences**, for what autograd does not see through: ``f(x(t))`` is interpolated at
  Chebyshev points on ``[-r, r]``, for a falling sequence of radii ``r``; each entry is taken where
  three successive radii agree best, and their disagreement bounds its error.

Source: Lyness & Moler, *Numerical differentiation of analytic functions* (1967), for coefficients
from values on a small domain around the point, and for the choice of its radius.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..engine.tensor import TaylorTensor

Path = list[torch.Tensor]


def along(
    f: Callable[[list[torch.Tensor]], Sequence[torch.Tensor]],
    paths: Sequence[Sequence[torch.Tensor]],
    order: int,
    weights: Sequence[torch.Tensor],
) -> list[torch.Tensor]:
    """``d^k/dt^k`` at ``t = 0`` of ``sum(weights * f(x(t)))``, k = 0 ... order, by autograd.

    ``paths`` are the Taylor coefficients of each argument.
    """
    where = paths[0][0].device if paths else None
    t = torch.zeros((), dtype=torch.float64, device=where, requires_grad=True)
    arguments = [
        sum((c * t**k for k, c in enumerate(path[1:], 1)), path[0] + 0 * t) for path in paths
    ]
    outputs = f(arguments)
    total = weighted(outputs, weights)
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


def weighted(outputs: Sequence[torch.Tensor], weights: Sequence[torch.Tensor]) -> torch.Tensor:
    """``sum(weights * outputs)``, real and imaginary parts taken for themselves."""
    return sum(
        (o * w).sum() if not o.is_complex() else (o.real * w.real + o.imag * w.imag).sum()
        for o, w in zip(outputs, weights, strict=True)
    )  # type: ignore[return-value]


def contracted(outputs: Sequence[Any], weights: Sequence[torch.Tensor], k: int) -> torch.Tensor:
    """The k-th derivative of the same weighted sum, from the coefficients of TaylorTensors."""
    parts = [coefficients(o, max(k, 1))[k] for o in outputs]
    total = torch.zeros((), dtype=torch.float64, device=parts[0].device)
    return total + weighted(parts, weights) * math.factorial(k)


def coefficients(result: Any, order: int) -> list[torch.Tensor]:
    """The coefficients of a result; one that no series reached is a constant."""
    if isinstance(result, TaylorTensor):
        return list(result.coeffs)
    return [result, *(torch.zeros_like(result) for _ in range(order))]


class Differences:
    """Taylor coefficients of a function of a real variable from its values around 0.

    ``values(t)`` is a vector. Each coefficient comes with a bound on its error.
    """

    radii = tuple(2.0**-n for n in range(1, 12))

    def __init__(self, order: int, more: int = 10) -> None:
        self.order = order
        count = (order + more + 1) // 2 * 2
        n = torch.arange(count + 1, dtype=torch.float64)
        self.points = torch.cos(math.pi * n / count)
        self.points[count // 2] = 0.0
        # f = sum of a_n T_n, the end terms halved; a_n = 2/N sum of f(x_j) T_n(x_j), likewise
        halved = torch.ones_like(n)
        halved[0] = halved[-1] = 0.5
        turns = n.outer(n) % (2 * count)
        to_chebyshev = torch.cos(math.pi / count * turns) * (2 / count) * halved * halved[:, None]
        self.to_coefficients = _chebyshev(count).T[: order + 1] @ to_chebyshev

    def coefficients(
        self, values: Callable[[float], torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """``c_0 ... c_K`` of ``values``, and how far each may be off."""
        middle = values(0.0)

        def at(radius: float) -> torch.Tensor:
            rows = [values(p * radius) if p else middle for p in self.points.tolist()]
            return self.scaled(radius, rows)

        return self.settled(at)

    def mixed(
        self, values: Callable[[float, float], torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The coefficients of ``s t^k``, k = 0 ... K, of ``values(s, t)``."""
        inner = Differences(1, more=7)

        def at(radius: float) -> torch.Tensor:
            slopes = []
            for p in self.points.tolist():
                rows = [values(q * radius, p * radius) for q in inner.points.tolist()]
                slopes.append(inner.scaled(radius, rows)[1])
            return self.scaled(radius, slopes)

        return self.settled(at)

    def scaled(self, radius: float, rows: Sequence[torch.Tensor]) -> torch.Tensor:
        """The coefficients of the polynomial with these values at ``radius`` times the points."""
        scale = radius ** -torch.arange(self.order + 1, dtype=torch.float64)
        return scale[:, None] * (self.to_coefficients @ torch.stack(list(rows)))

    def settled(self, at: Callable[[float], torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Each entry where three successive radii agree best, and by how much they disagree."""
        found: list[torch.Tensor] = []
        spreads: list[torch.Tensor] = []
        for radius in self.radii:
            found.append(at(radius))
            if len(found) < 3:
                continue
            last, middle, first = found[-1], found[-2], found[-3]
            spread = torch.maximum((last - middle).abs(), (middle - first).abs())
            spreads.append(spread.nan_to_num(math.inf))
            error = torch.stack(spreads).amin(0)
            scale = middle.abs().amax(1, keepdim=True).nan_to_num(0.0)
            if (error <= 1e-7 * scale + 1e-8 * scale.max()).all():
                break
        error, best = torch.stack(spreads).min(0)
        value = torch.stack(found[1:-1]).gather(0, best[None])[0]
        return value.where(error.isfinite(), torch.zeros_like(value)), error


def _chebyshev(count: int) -> torch.Tensor:
    """Row ``n``: the coefficients of the Chebyshev polynomial ``T_n``, n = 0 ... count."""
    rows = torch.zeros(count + 1, count + 1, dtype=torch.float64)
    rows[0, 0] = rows[1, 1] = 1.0
    for n in range(2, count + 1):
        rows[n, 1:] = 2 * rows[n - 1, :-1]
        rows[n] -= rows[n - 2]
    return rows


def _as_vector(outputs: Sequence[torch.Tensor]) -> torch.Tensor:
    parts = [torch.view_as_real(o) if o.is_complex() else o for o in outputs]
    return torch.cat([part.detach().reshape(-1).to(torch.float64).cpu() for part in parts])


def _at(path: Sequence[torch.Tensor], t: float) -> torch.Tensor:
    result = path[-1]
    for c in path[-2::-1]:
        result = torch.add(c, result, alpha=t)
    return result


class Autograd:
    """The oracle for functions that autograd sees through."""

    name = "autograd"

    def __init__(self, f: Callable) -> None:
        self.f = f

    def entries(self, curve: list[Path], base: Sequence[torch.Tensor]) -> tuple[list, list]:
        """``c_0 ... c_K`` of every output, and bounds on their errors."""
        weights = [torch.ones_like(o).requires_grad_() for o in base]
        totals = along(self.f, curve, _order(curve), weights)
        result = []
        for k, total in enumerate(totals):
            parts = gradients_of(total, weights)
            result.append([(part / math.factorial(k)).detach() for part in parts])
        return result, [[torch.zeros(()) for _ in base] for _ in totals]

    def totals(self, curve: list[Path], weights: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """``sum(weights * c_k)``, to be differentiated."""
        totals = along(self.f, curve, _order(curve), weights)
        return [total / math.factorial(k) for k, total in enumerate(totals)]


class Opaque:
    """The oracle for functions that autograd does not see through."""

    name = "finite differences"

    def __init__(self, f: Callable) -> None:
        self.f = f

    def entries(self, curve: list[Path], base: Sequence[torch.Tensor]) -> tuple[list, list]:
        def at(t: float) -> torch.Tensor:
            return _as_vector(self.f([_at(path, t) for path in curve]))

        with torch.no_grad():
            found = Differences(_order(curve)).coefficients(at)
        values, errors = ([_split(row, base) for row in part] for part in found)
        return values, errors

    def slopes(
        self, curve: list[Path], tangent: list[Path], weights: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The derivatives of ``sum(weights * c_k)`` as the coefficients move along ``tangent``."""
        w = _as_vector(weights)

        @functools.cache
        def moved(s: float) -> list[Path]:
            return [
                [torch.add(c, v, alpha=s) for c, v in zip(path, move, strict=True)]
                if move
                else path
                for path, move in zip(curve, tangent, strict=True)
            ]

        def values(s: float, t: float) -> torch.Tensor:
            return (w * _as_vector(self.f([_at(path, t) for path in moved(s)]))).sum()[None]

        with torch.no_grad():
            slopes, errors = Differences(_order(curve)).mixed(values)
        return slopes[:, 0], errors[:, 0]


def _order(curve: list[Path]) -> int:
    return max(map(len, curve)) - 1


def _split(row: torch.Tensor, like: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """A row of ``_as_vector`` in parts again."""
    shapes = [(*o.shape, 2) if o.is_complex() else tuple(o.shape) for o in like]
    parts = row.split([math.prod(shape) for shape in shapes])
    return [
        (torch.view_as_complex(part.reshape(shape)) if o.is_complex() else part.reshape(shape)).to(
            o.device
        )
        for part, shape, o in zip(parts, shapes, like, strict=True)
    ]


def gradients_of(total: torch.Tensor, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Zero where the total does not depend on an input."""
    if not total.requires_grad:
        return [torch.zeros_like(x) for x in inputs]
    return list(
        torch.autograd.grad(
            total, inputs, retain_graph=True, allow_unused=True, materialize_grads=True
        )
    )


def leaves_of(total: torch.Tensor) -> dict[int, torch.Tensor]:
    """The tensors that require grad which ``total`` is computed from."""
    seen, found, queue = set(), {}, [total.grad_fn]
    while queue:
        node = queue.pop()
        if node is not None and node not in seen:
            seen.add(node)
            queue += [following for following, _ in node.next_functions]
            leaf = getattr(node, "variable", None)
            if leaf is not None:
                found[id(leaf)] = leaf
    return found


def largest_of(x: Any) -> float:
    """The largest magnitude of an entry."""
    return float(x.detach().abs().max()) if x.numel() else 0.0
