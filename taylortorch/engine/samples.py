"""Sample calls: what a row of a table is checked with, and what a user gives ``check_rule``."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch


@dataclasses.dataclass(frozen=True)
class T:
    """A float64 tensor to be drawn for a sample call: its shape, and the range of its entries."""

    shape: tuple[int, ...]
    low: float = 0.2
    high: float = 0.8

    def draw(self, generator: torch.Generator) -> torch.Tensor:
        uniform = torch.rand(self.shape, generator=generator, dtype=torch.float64)
        return self.low + (self.high - self.low) * uniform


@dataclasses.dataclass(frozen=True)
class Sample:
    """One call of a function: the arguments, with ``T`` for each tensor that can be a series."""

    args: tuple
    kwargs: dict = dataclasses.field(default_factory=dict)


def t(*shape: int, low: float = 0.2, high: float = 0.8) -> T:
    """A float64 tensor of this shape for a sample call, its entries drawn between low and high."""
    return T(shape, low, high)


def call(*args: Any, **kwargs: Any) -> Sample:
    """A sample call with these arguments; each ``t(...)`` among them is a tensor to be drawn."""
    return Sample(args, kwargs)
