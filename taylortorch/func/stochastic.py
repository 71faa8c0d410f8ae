r"""Unbiased estimates of differential operators from random directions.

For operators in so many dimensions that the exact transforms are too dear. What an estimate costs
does not depend on the dimension: ``samples`` directions instead of D. All estimates are unbiased,
differentiable like the exact transforms, and drawn anew at every call from ``generator``.

For directions with ``E[v v^T] = 1`` the mean of ``v^T H v`` is the Laplacian. With S of them the
variance of the estimate is ``2 |H|_F^2 / S`` for Gaussian directions, ``2 |H - diag H|_F^2 / S``
for Rademacher directions (entries +-1), and ``(D sum_i H_ii^2 - (tr H)^2) / S`` for coordinate
directions ``sqrt(D) e_i`` drawn with replacement, ``(D - S) / (D - 1)`` times that without.

Sources: Hutchinson (1990), *Communications in Statistics* 19, 433; Hu et al. (2024), *Stochastic
Taylor Derivative Estimator*, arXiv:2412.00088, for randomised multi-indices. The constants here are
derived below, not taken over.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, ParamSpec

import torch

from ..algebra.structures import Collapsed
from ..engine.directions import Operator
from .linear import operator_at
from .point import Point, transform, tree_map

__all__ = ["biharmonic", "laplacian", "linear_operator"]

_P = ParamSpec("_P")

DIRECTIONS = ("rademacher", "gaussian", "coordinates")


def laplacian(
    f: Callable[_P, Any],
    samples: int,
    argnums: int = 0,
    *,
    directions: str = "rademacher",
    replacement: bool = False,
    per_sample: bool = False,
    generator: torch.Generator | None = None,
    event_dims: int | None = None,
    return_value: bool = False,
) -> Callable[_P, Any]:
    """An unbiased estimate of the Laplacian from ``samples`` random directions.

    Args:
        f: a function of tensors; see ``taylortorch.func`` for what it may return.
        samples: S, the number of directions; propagates ``2 + S`` blocks.
        argnums, event_dims, return_value: as for ``taylortorch.func.jacfwd``.
        directions: ``"rademacher"``, ``"gaussian"`` or ``"coordinates"``.
        replacement: whether coordinates may be drawn more than once.
        per_sample: draw directions for every sample of the batch, instead of one set for all:
            errors of different samples are then independent, at the price of directions that are
            not shared.
        generator: source of the random numbers, on the device of the argument.

    Raises:
        ValueError: unknown directions, fewer than one sample, more coordinates than there are
            without replacement; as for ``jacfwd``.
        TypeError: as for ``jacfwd``.

    >>> import torch, taylortorch as tt
    >>> estimate = tt.func.stochastic.laplacian(lambda x: (x**2).sum(-1), samples=1)
    >>> estimate(torch.ones(1, 100))  # the Hessian is diagonal: no variance
    tensor([200.])
    """
    who = "stochastic.laplacian"
    _check(who, samples, directions)

    def evaluate(point: Point) -> tuple[Any, Any]:
        drawn = _draw(point, samples, directions, replacement, per_sample, generator)
        output = point.along(drawn, Operator(samples), 2)
        return tree_map(lambda c: c * (2 / samples), output.block(2)), output.value()

    return transform(who, evaluate, f, argnums, event_dims, return_value)


def biharmonic(
    f: Callable[_P, Any],
    samples: int,
    argnums: int = 0,
    *,
    directions: str = "gaussian",
    replacement: bool = False,
    per_sample: bool = False,
    generator: torch.Generator | None = None,
    event_dims: int | None = None,
    return_value: bool = False,
) -> Callable[_P, Any]:
    """An unbiased estimate of the biharmonic operator from ``samples`` random directions.

    For a Gaussian ``v``, ``E[(v . grad)^4] = 3 Laplacian^2``: one direction of order 4 per sample.
    For independent ``u, v`` with ``E[u u^T] = E[v v^T] = 1`` of any kind,
    ``E[(u . grad)^2 (v . grad)^2] = Laplacian^2``, where
    ``12 (u . grad)^2 (v . grad)^2`` is the fourth derivative along ``u + v`` plus that along
    ``u - v`` minus twice those along ``u`` and ``v``: four directions per sample. Arguments and
    errors as ``laplacian``.
    """
    who = "stochastic.biharmonic"
    _check(who, samples, directions)

    def evaluate(point: Point) -> tuple[Any, Any]:
        def draw() -> torch.Tensor:
            return _draw(point, samples, directions, replacement, per_sample, generator)

        if directions == "gaussian":
            drawn, weights = draw(), point.x.new_full((samples,), 8 / samples)
        else:
            u, v = draw(), draw()
            drawn = torch.cat([u + v, u - v, u, v])
            weights = point.x.new_tensor([2, 2, -4, -4]).repeat_interleave(samples) / samples
        output = point.along(drawn, Collapsed(len(drawn), 4, weights, per_sample=True), 4)
        return output.block(4), output.value()

    return transform(who, evaluate, f, argnums, event_dims, return_value)


def linear_operator(
    f: Callable[_P, Any],
    terms: Mapping[Sequence[int], Any],
    samples: int,
    argnums: int = 0,
    *,
    replacement: bool = False,
    generator: torch.Generator | None = None,
    event_dims: int | None = None,
    return_value: bool = False,
) -> Callable[_P, Any]:
    """An unbiased estimate of a linear differential operator from ``samples`` of its terms.

    Without replacement each subset of the ``n`` terms is equally likely, and what is drawn counts
    ``n / samples`` times. With replacement a term is drawn with a probability ``p_a`` proportional
    to the size of its number coefficient (coefficients that are tensors or functions count as 1),
    and counts ``1 / (p_a samples)`` times. The terms are shared by the batch. ``terms`` and the
    other arguments as for ``taylortorch.func.linear_operator``.

    Raises:
        ValueError: more samples than terms without replacement; as for the exact operator.
        TypeError: as for the exact operator.
    """
    who = "stochastic.linear_operator"
    _check(who, samples, "coordinates")
    if not isinstance(terms, Mapping):
        raise TypeError(
            f"taylortorch.func.{who}: terms must be a mapping of multi-indices to coefficients, "
            f"got {type(terms).__name__}"
        )
    listed = [(tuple(index), c) for index, c in terms.items()]
    if not replacement and samples > len(listed):
        raise ValueError(
            f"taylortorch.func.{who}: {samples} samples of {len(listed)} terms: pass "
            "replacement=True, or use taylortorch.func.linear_operator, which takes all"
        )

    def evaluate(point: Point) -> tuple[Any, Any]:
        count = len(listed)
        sizes = [
            abs(float(c)) if replacement and isinstance(c, (int, float, Fraction)) else 1.0
            for _, c in listed
        ]
        chances = torch.tensor(sizes, dtype=torch.float64) / (math.fsum(sizes) or 1.0)
        device = generator.device if generator is not None else torch.device("cpu")
        numbers = torch.multinomial(
            chances.to(device), samples, replacement=replacement, generator=generator
        ).tolist()
        drawn: dict[tuple[int, ...], Any] = {}
        for n in sorted(set(numbers)):
            index, coefficient = listed[n]
            often = numbers.count(n) / samples
            factor = often * count if not replacement else often / float(chances[n])
            drawn[index] = _times(coefficient, factor)
        return operator_at(point, drawn)

    return transform(who, evaluate, f, argnums, event_dims, return_value)


def _times(coefficient: Any, factor: float) -> Any:
    if callable(coefficient):
        return lambda x: coefficient(x) * factor
    return coefficient * factor


def _check(who: str, samples: Any, directions: str) -> None:
    if isinstance(samples, bool) or not isinstance(samples, int):
        raise TypeError(f"taylortorch.func.{who}: samples must be an int, got {samples!r}")
    if samples < 1:
        raise ValueError(f"taylortorch.func.{who}: samples must be at least 1, got {samples}")
    if directions not in DIRECTIONS:
        raise ValueError(
            f"taylortorch.func.{who}: directions must be one of {DIRECTIONS}, got {directions!r}"
        )


def _draw(
    point: Point,
    samples: int,
    directions: str,
    replacement: bool,
    per_sample: bool,
    generator: torch.Generator | None,
) -> torch.Tensor:
    """``samples`` directions with ``E[v v^T] = 1``: ``(samples, *batch or ones, *event)``."""
    x, count = point.x, point.count
    batch = point.batch if per_sample else (1,) * len(point.batch)
    shape = (samples, *batch, count)
    real = {"dtype": x.dtype.to_real(), "device": x.device}
    if directions == "gaussian":
        drawn = torch.randn(shape, generator=generator, **real)
    elif directions == "rademacher":
        drawn = torch.randint(2, shape, generator=generator, device=x.device).to(real["dtype"])
        drawn = 2 * drawn - 1
    else:
        if not replacement and samples > count:
            raise ValueError(
                f"{point.who}: {samples} samples of {count} coordinates: pass replacement=True, or "
                "use the exact transform"
            )
        draws = math.prod(batch)
        if replacement:
            numbers = torch.randint(count, (draws, samples), generator=generator, device=x.device)
        else:
            keys = torch.rand((draws, count), generator=generator, device=x.device)
            numbers = keys.topk(samples, dim=-1).indices
        drawn = torch.zeros((draws, samples, count), **real)
        drawn = drawn.scatter(-1, numbers.unsqueeze(-1), math.sqrt(count))
        drawn = drawn.movedim(1, 0)
    return drawn.reshape(samples, *batch, *point.event).to(x.dtype)
