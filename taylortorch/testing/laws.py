"""The laws that relate the values of a rule to each other, without an oracle.

A bundle is as many lines; collapsed, its highest degree is their weighted sum; a lower order is
part of a higher one. A law is a function of a ``Trial`` and an order, and yields ``Claim``s, pairs
of tensors that must agree. Who asks compares: ``check_rule`` for a user's function, the test-suite
for every row of the tables.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import torch

from ..algebra.indices import IndexSet, total_degree
from ..algebra.structures import LINE, Bundle, Collapsed, Multivariate, Structure
from ..engine.tensor import TaylorTensor, wrap
from ..operators.variables import Origin, TorchArrays
from .oracles import coefficients

# as many lines as determine a polynomial of degree 3 in two variables
LINES = ((1.0, 0.0), (0.5, -1.0), (-1.0, 2.0), (1.0, 1.0))
WEIGHTS = (1.5, -1.0, 0.25)


class Claim(NamedTuple):
    """Two tensors that must agree: what the first one is, and what the second one is known by."""

    what: str
    got: torch.Tensor
    want: torch.Tensor
    by: str = "the rule on a line"


@dataclasses.dataclass(frozen=True)
class Trial:
    """A function at one point, and which of its tensors are series there.

    ``results(arguments, what)`` calls it; ``what`` says with what, should it raise. ``random(shape,
    like)`` draws a tensor.
    """

    results: Callable[[list[Any], str], list[Any]]
    values: Sequence[torch.Tensor]
    chosen: Collection[int]
    random: Callable[[Sequence[int], torch.Tensor], torch.Tensor]

    def through(self, blocks: list[list[Any]], structure: Structure, what: str) -> list[Any]:
        """The results where the blocks of each tensor are a series of this structure."""
        arguments = [
            wrap(b, structure, 0) if i in self.chosen else b[0] for i, b in enumerate(blocks)
        ]
        return self.results(arguments, what)

    def on_line(self, paths: list[list[Any]]) -> list[list[torch.Tensor]]:
        """The coefficients of each result along a curve."""
        order = len(paths[0]) - 1
        results = self.through(paths, LINE, f"order {order}")
        return [coefficients(result, order) for result in results]

    def drawn(self, order: int, *rows: int) -> list[list[torch.Tensor]]:
        """A random series for each tensor, with leading axes ``rows`` from degree 1 on."""
        return [
            [x, *(self.random((*rows, *x.shape), x) for _ in range(order))] for x in self.values
        ]


Law = Callable[[Trial, int], Iterator[Claim]]


def truncation(trial: Trial, order: int) -> Iterator[Claim]:
    """The coefficients of every order are the first ones of the next higher order."""
    paths = trial.drawn(order + 1)
    whole = trial.on_line(paths)
    for lower in range(order + 1):
        part = trial.on_line([path[: lower + 1] for path in paths])
        for y, z in zip(part, whole, strict=True):
            for k in range(lower + 1):
                yield Claim(f"c_{k} at order {lower}", y[k], z[k])


def structural_zeros(trial: Trial, order: int) -> Iterator[Claim]:
    """Coefficients that are left out are zeros."""
    directions = [trial.random(x.shape, x) for x in trial.values]
    yield from _seeded(trial, order, directions, directions, "with structural zeros")


def shared_directions(trial: Trial, order: int) -> Iterator[Claim]:
    """A direction of one entry stands for as many equal ones."""
    ones = [torch.ones_like(x) for x in trial.values]
    yield from _seeded(trial, order, [None] * len(ones), ones, "with one direction for all entries")


def _seeded(
    trial: Trial, order: int, given: Sequence[Any], meant: Sequence[torch.Tensor], what: str
) -> Iterator[Claim]:
    dense = [
        [x, v, *(torch.zeros_like(x) for _ in range(order - 1))]
        for x, v in zip(trial.values, meant, strict=True)
    ]
    arguments = [
        TaylorTensor(x, v, order=order) if i in trial.chosen else x
        for i, (x, v) in enumerate(zip(trial.values, given, strict=True))
    ]
    results = trial.results(arguments, what)
    for y, z in zip(results, trial.on_line(dense), strict=True):
        for k, c in enumerate(coefficients(y, order)):
            yield Claim(f"c_{k} {what}", c, z[k])


def bundle(trial: Trial, order: int) -> Iterator[Claim]:
    """A bundle is as many lines."""
    count = len(WEIGHTS)
    blocks = trial.drawn(order, count)
    results = trial.through(blocks, Bundle(count), "a bundle")
    together = [_by_direction(y, order, count) for y in results]
    for r in range(count):
        line = trial.on_line([[b[0], *(c[r] for c in b[1:])] for b in blocks])
        for y, z in zip(together, line, strict=True):
            for k in range(order + 1):
                what = f"c_{k} along direction {r} of a bundle"
                yield Claim(what, y[k][r] if k else y[k], z[k])


def collapsed(trial: Trial, order: int) -> Iterator[Claim]:
    """The highest degree of a collapsed bundle is the weighted sum of that of the bundle."""
    count, by = len(WEIGHTS), "the rule on a bundle"
    weights = torch.tensor(WEIGHTS, dtype=torch.float64)
    blocks = trial.drawn(order, count)
    lines = trial.through(blocks, Bundle(count), "a bundle")
    first = trial.values[0]
    structure = Collapsed(count, order, weights.to(first.device, first.dtype.to_real()))
    summed = [[*b[:order], structure.collapse(b[order])] for b in blocks]
    for y, z in zip(trial.through(summed, structure, "collapsed"), lines, strict=True):
        top, rows = coefficients(y, order)[order], _by_direction(z, order, count)
        for k in range(order):
            yield Claim(f"c_{k}, collapsed", _by_direction(y, order, count)[k], rows[k], by)
        want = torch.tensordot(weights.to(rows[order]), rows[order], 1)
        yield Claim(f"c_{order}, collapsed", top, want, by)


def several_variables(trial: Trial, order: int) -> Iterator[Claim]:
    """A series in several variables holds every line through the point."""
    indices = total_degree(2, order)
    blocks = [
        [x, *(trial.random((len(degree), *x.shape), x) for degree in indices[1:])]
        for x in trial.values
    ]
    structure = Multivariate(Origin(), indices, TorchArrays)
    results = trial.through(blocks, structure, "several variables")
    for v in LINES:
        lines = trial.on_line([_along(b, indices, v) for b in blocks])
        for y, z in zip(results, lines, strict=True):
            varies = isinstance(y, TaylorTensor)
            mine = _along(y.coeffs, y.multi_indices, v) if varies else coefficients(y, order)
            for k, c in enumerate(mine):
                yield Claim(f"degree {k} in several variables", c, z[k])


def nested_levels(trial: Trial, order: int) -> Iterator[Claim]:
    """A series of series in ``s`` and ``t`` holds the coefficients of one in both variables."""
    indices = total_degree(2, order + 1)
    structure = Multivariate(Origin(), indices, TorchArrays)
    flat: list[list[Any]] = []
    nested: list[Any] = []
    for i, x in enumerate(trial.values):
        # x + a s + b t + c s t
        a, b, c = (trial.random(x.shape, x) for _ in range(3))
        zero = torch.zeros_like(x)
        higher = [None] * (order - 1)
        flat.append([x, torch.stack([a, b]), torch.stack([zero, c, zero]), *higher][: order + 2])
        inner: list[Any] = [TaylorTensor.from_coeffs(p) for p in ([x, a], [b, c])]
        inner += [torch.zeros_like(inner[0])] * (order - 1)
        nested.append(TaylorTensor.from_coeffs(inner[: order + 1]) if i in trial.chosen else x)
    both = trial.through(flat, structure, "several variables")
    for y, z in zip(trial.results(nested, "nested"), both, strict=True):
        for k, degree in enumerate(coefficients(y, order)):
            for j, got in enumerate(coefficients(degree, 1)):
                what = f"the coefficient of s^{j} t^{k} of nested levels"
                yield Claim(what, got, _mixed(z, (j, k)), "several variables")


def precision(trial: Trial, order: int, plain: Sequence[torch.Tensor]) -> Iterator[Claim]:
    """Every coefficient has the dtype of the function's value; only the dtypes are claimed."""
    arguments = [
        TaylorTensor(x, order=order) if i in trial.chosen else x for i, x in enumerate(trial.values)
    ]
    results = trial.results(arguments, "in the precision given")
    for result, value in zip(results, plain, strict=True):
        for k, c in enumerate(coefficients(result, order)):
            yield Claim(f"c_{k}", c, value, "the function")


# what holds for every rule at every order from 1 on
LAWS: dict[str, tuple[Law, ...]] = {
    "orders": (truncation,),
    "structural zeros, shared directions": (structural_zeros, shared_directions),
    "bundle, collapsed": (bundle, collapsed),
    "several variables": (several_variables,),
    "nested levels": (nested_levels,),
}


def _by_direction(result: Any, order: int, count: int) -> list[torch.Tensor]:
    """The coefficients of a bundle; those of a constant for every direction."""
    if isinstance(result, TaylorTensor):
        return list(result.coeffs)
    return [result, *(torch.zeros((count, *result.shape)).to(result) for _ in range(order))]


def _along(blocks: Sequence[Any], indices: IndexSet, v: Sequence[float]) -> list[torch.Tensor]:
    """The coefficients along ``h = v t`` of a series in several variables."""
    line = [blocks[0]]
    for block, degree in zip(blocks[1:], indices[1:], strict=True):
        factors = [math.prod(c**n for c, n in zip(v, a, strict=True)) for a in degree]
        line.append(torch.tensordot(torch.tensor(factors).to(block), block, 1))
    return line


def _mixed(result: Any, index: tuple[int, ...]) -> torch.Tensor:
    """The coefficient at a multi-index of a result in several variables."""
    k = sum(index)
    if not k or not isinstance(result, TaylorTensor):
        return coefficients(result, k)[k]
    return result.coeffs[k][result.multi_indices[k].index(index)]
