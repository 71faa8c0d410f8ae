"""Where a function is measured: domains as the page writes them, and points of them."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable

import torch

NUMBER = r"(-?[\d.]+(?:e-?\d+)?)"
EVEN = re.compile(rf"\[{NUMBER}, {NUMBER}\]")
DECADES = re.compile(rf"{NUMBER} \.\.\. {NUMBER}")
NEAR = re.compile(rf"{NUMBER} ([+-]) \({NUMBER} \.\.\. {NUMBER}\)")


def draw(span: str, count: int, generator: torch.Generator) -> torch.Tensor:
    """Points of ``[a, b]``, evenly; of ``a ... b``, evenly on a logarithmic scale; of
    ``p + (a ... b)`` or ``p - (a ... b)``, at such distances from ``p``."""
    u = torch.rand(count, generator=generator, dtype=torch.float64)
    if match := EVEN.fullmatch(span):
        low, high = map(float, match.groups())
        return low + (high - low) * u
    if match := DECADES.fullmatch(span):
        low, high = map(float, match.groups())
        first, last = math.log(abs(low)), math.log(abs(high))
        return math.copysign(1, low) * torch.exp(first + (last - first) * u)
    match = NEAR.fullmatch(span)
    assert match, span
    point, sign, *limits = match.groups()
    distance = draw(" ... ".join(limits), count, generator)
    return float(point) + (distance if sign == "+" else -distance)


@dataclasses.dataclass(frozen=True)
class Case:
    """A function, its reference and its domains.

    ``domains`` are separated by ``;``, the spans of two arguments by ``x``; after ``|`` stands the
    domain in float32, where it is another. ``length``: the distance over which the function changes
    where that is not ``|x|`` itself. ``curve``: the direction of each argument.
    """

    name: str
    call: Callable
    reference: Callable
    domains: str
    length: float = 1.0
    curve: tuple[float, ...] = (1.0,)

    def domains_in(self, dtype: torch.dtype) -> list[str]:
        pairs = [domain.split(" | ") for domain in self.domains.split("; ")]
        return [pair[-1] if dtype == torch.float32 else pair[0] for pair in pairs]
