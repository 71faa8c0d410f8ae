"""Matrices that linear algebra is smooth at: regular, definite, with separated eigenvalues."""

from __future__ import annotations

import dataclasses

import torch

from ...engine.samples import T


@dataclasses.dataclass(frozen=True)
class Regular(T):
    """A matrix with well separated singular values and eigenvalues."""

    def draw(self, generator: torch.Generator) -> torch.Tensor:
        return super().draw(generator) + _rising(self.shape)


@dataclasses.dataclass(frozen=True)
class Definite(T):
    """A symmetric positive definite matrix with well separated eigenvalues."""

    def draw(self, generator: torch.Generator) -> torch.Tensor:
        x = super().draw(generator)
        return (x + x.mT) / 2 + _rising(self.shape)


def _rising(shape: tuple[int, ...]) -> torch.Tensor:
    """1, 2, 3 ... on the diagonal."""
    *_, m, n = shape
    return torch.eye(m, n, dtype=torch.float64) * torch.arange(1, n + 1, dtype=torch.float64)


R3, R23, R4 = Regular((3, 3)), Regular((2, 3, 3)), Regular((4, 4))


D3, D23 = Definite((3, 3)), Definite((2, 3, 3))


TALL, WIDE, TALLS = Regular((4, 2)), Regular((2, 4)), Regular((2, 4, 3))
