"""At kinks and ties every rule gives the slope that this torch's own backward gives.

Generated from the rows: the samples' tensors are filled with numbers at which functions have their
kinks, few of them at a time, so that operands, bounds and entries are equal all over.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import taylortorch as tt
from taylortorch.engine.registry import ROWS, name_of
from taylortorch.engine.samples import Sample
from taylortorch.testing.oracles import contracted
from taylortorch.testing.samples import invoke, tensors_in
from tests.calls import accepts
from tests.oracle import along

KINKS = {-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0, 6.0}


def kinks_of(function: Any, sample: Sample) -> list[float]:
    """The usual places, and the numbers that the call or the signature names."""
    named = [*sample.args, *sample.kwargs.values()]
    with contextlib.suppress(TypeError, ValueError):
        named += [p.default for p in inspect.signature(function).parameters.values()]
    numbers = {float(x) for x in named if type(x) in (int, float) and abs(x) < 1e3}
    return sorted(KINKS | numbers | {-x for x in numbers})


def draws(function: Any, sample: Sample) -> Iterator[list[torch.Tensor]]:
    """Values for the sample's tensors: any of three neighbouring kinks, window by window."""
    kinks = kinks_of(function, sample)
    shapes = [spec.shape for spec in tensors_in((sample.args, tuple(sample.kwargs.values())))]
    generator = torch.Generator().manual_seed(0)
    for n in range(len(kinks) - 2):
        window = torch.tensor(kinks[n : n + 3], dtype=torch.float64)
        yield [window[torch.randint(3, shape, generator=generator)] for shape in shapes]


def compare(function: Any, sample: Sample) -> int:
    """How many slopes were compared."""
    count = 0
    for values in draws(function, sample):
        for n in range(len(values)):
            generator = torch.Generator().manual_seed(1)
            step = torch.randn(values[n].shape, generator=generator, dtype=torch.float64)
            paths = [[x, step] if i == n else [x] for i, x in enumerate(values)]

            def f(xs: list[Any]) -> list[Any]:
                torch.manual_seed(0)
                return invoke(function, sample, xs)

            try:
                plain = f(values)
                weights = [torch.randn(y.shape, generator=generator).to(y.dtype) for y in plain]
                expected = along(f, paths, 1, weights)[1].detach().double()
            except RuntimeError:
                # the function is not defined there, or not differentiable for torch
                continue
            if not torch.isfinite(expected):
                continue
            moved = [tt.TaylorTensor.from_coeffs(p) if len(p) > 1 else p[0] for p in paths]
            got = contracted(f(moved), weights, 1).double()
            torch.testing.assert_close(
                got,
                expected,
                rtol=1e-6,
                atol=1e-6,
                msg=lambda m, n=n, values=values: f"argument {n}, {values}: {m}",
            )
            count += 1
    return count


def cases() -> list[Any]:
    """Every sample of every row, with the first of the row's functions that takes it."""
    found = []
    for rule in ROWS:
        if rule.kind != "value":
            for n, sample in enumerate(rule.samples):
                function = next(f for f in rule.functions if accepts(f, sample))
                found.append(pytest.param(function, sample, id=f"{name_of(function)}-{n}"))
    return found


@pytest.mark.parametrize(("function", "sample"), cases())
def test_slopes_are_those_of_torch(function: Any, sample: Sample) -> None:
    compare(function, sample)
