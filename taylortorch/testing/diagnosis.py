"""testing.diagnosis."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch

from ..engine.samples import T
from ..engine.tensor import TaylorTensor
from .oracles import coefficients


@dataclasses.dataclass(frozen=True)
class Report:
    """What ``check_rule`` checked.

    ``oracle`` says what the coefficients were compared with, and why; ``checks`` what was checked;
    ``refused`` which arguments the rule does not take as a series; ``error`` is the largest error
    of a coefficient, relative to the largest entry of it.
    """

    function: str
    samples: int
    order: int
    oracle: tuple[str, ...]
    checks: tuple[str, ...]
    refused: tuple[str, ...]
    error: float

    def __repr__(self) -> str:
        lines = [
            f"{self.function}: right to order {self.order} on {self.samples} "
            f"sample{'s' * (self.samples != 1)}, to {self.error:.0e}",
            *(f"  oracle: {oracle}" for oracle in self.oracle),
            f"  checked: {', '.join(self.checks)}",
            *(f"  refused: {refusal}" for refusal in self.refused),
        ]
        return "\n".join(lines)


def labels(tree: Any, prefix: str, names: Sequence[str]) -> list[str]:
    """What to call the tensors of a sample."""
    if isinstance(tree, T):
        return [prefix]
    if not isinstance(tree, (list, tuple)):
        return []
    found = []
    for n, item in enumerate(tree):
        here = f"{prefix}[{n}]"
        if not prefix:
            here = f"argument {n + 1}" + (f", {names[n]}" if n < len(names) else "")
        found += labels(item, here, names)
    return found


def shown(tree: Any) -> str:
    if isinstance(tree, T):
        tree = tree.draw(torch.Generator())
    if isinstance(tree, torch.Tensor):
        return f"{str(tree.dtype).removeprefix('torch.')}{list(tree.shape)}"
    if isinstance(tree, (list, tuple)):
        inner = ", ".join(map(shown, tree))
        if isinstance(tree, list):
            return f"[{inner}]"
        return f"({inner},)" if len(tree) == 1 else f"({inner})"
    return repr(tree)


def largest_of(x: Any) -> float:
    return float(x.detach().abs().max()) if x.numel() else 0.0


def number_of(x: torch.Tensor, n: int) -> str:
    return f"{x.flatten()[n].item():.8g}"


def ratio_of(got: torch.Tensor, want: torch.Tensor) -> float | None:
    """The one factor between two tensors, if there is one."""
    got, want = got.detach(), want.detach().expand_as(got)
    scale = largest_of(want)
    if not scale:
        return None
    if largest_of(got) <= 1e-6 * scale:
        return 0.0
    factor = ((got * want.conj()).sum() / (want * want.conj()).sum()).item()
    if isinstance(factor, complex):
        if abs(factor.imag) > 1e-6 * abs(factor):
            return None
        factor = factor.real
    return factor if largest_of(got - factor * want) <= 1e-4 * scale * abs(factor) else None


def rows_of_block(result: Any, order: int, count: int) -> list[torch.Tensor]:
    """The coefficients of a bundle; those of a constant for every direction."""
    if isinstance(result, TaylorTensor):
        return list(result.coeffs)
    return [result, *(torch.zeros((count, *result.shape)).to(result) for _ in range(order))]


def on_line(result: Any, k: int, v: Sequence[float]) -> torch.Tensor:
    """The coefficient of degree ``k`` along ``h = v t`` of a result in several variables."""
    if not isinstance(result, TaylorTensor):
        return coefficients(result, k)[k]
    if k == 0:
        return result.value
    factors = [math.prod(c**n for c, n in zip(v, a, strict=True)) for a in result.multi_indices[k]]
    rows = result.coeffs[k]
    return torch.tensordot(torch.tensor(factors).to(rows), rows, 1)


def mixed(result: Any, index: tuple[int, ...]) -> torch.Tensor:
    """The coefficient at a multi-index of a result in several variables."""
    k = sum(index)
    if not isinstance(result, TaylorTensor):
        return coefficients(result, k)[k]
    if k == 0:
        return result.value
    return result.coeffs[k][result.multi_indices[k].index(index)]
