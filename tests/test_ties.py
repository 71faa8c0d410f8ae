"""At kinks and ties every rule gives the slope that this torch's own backward gives.

Generated from the rows: the samples' tensors are filled with numbers at which functions have their
kinks, few of them at a time, so that operands, bounds and entries are equal all over.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

import taylortorch as tt
from taylortorch.engine.kinds import piecewise
from taylortorch.engine.registry import ROWS, RULES, name_of
from taylortorch.engine.samples import Sample
from taylortorch.engine.ties import by_piece, slopes_at
from taylortorch.testing.oracles import contracted, weighted
from taylortorch.testing.samples import invoke, tensors_in
from tests.calls import accepts, draw

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


# what no rule can follow, or should: a function, and the keywords of the calls meant
OFF: dict[str, tuple[dict, str]] = {
    "digamma": ({}, "torch's slope at a pole is 1e32, its value infinite"),
    "binary_cross_entropy": ({}, "torch's slope at 0 and 1 is 1e12, its value cut off at 100"),
    "nn.functional.binary_cross_entropy": ({}, "the same"),
    "torch.polar": ({}, "torch's slope has the wrong sign at a negative distance"),
    "nn.functional.gaussian_nll_loss": ({}, "torch's backward passes by the clamp of var"),
    "segment_reduce": ({"initial": 0.3}, "torch shares by counts of other columns"),
    "scatter_reduce": ({"include_self": False}, "torch counts the entry that is left out"),
    "index_reduce": ({"include_self": False}, "torch counts the entry that is left out"),
}


def slope_of_torch(f: Callable, values: list[torch.Tensor], n: int, step: torch.Tensor) -> Any:
    """Of the weighted sum of the results, along a step of argument n; None where torch has none."""
    moved = values[n].clone().requires_grad_()
    try:
        # not a leaf: some functions write
        total = weighted(*f([moved * 1 if i == n else x for i, x in enumerate(values)]))
        if not total.requires_grad:
            return None
        (gradient,) = torch.autograd.grad(total, moved, materialize_grads=True)
    except (RuntimeError, ValueError):
        # not defined there, or torch has no derivative of it
        return None
    slope = (gradient.double() * step).sum()
    return slope if torch.isfinite(slope) else None


def own_slope(f: Callable, values: list[torch.Tensor], n: int, step: torch.Tensor) -> Any:
    series = tt.TaylorTensor.from_coeffs([values[n], step])
    results, weights = f([series if i == n else x for i, x in enumerate(values)])
    return contracted(results, weights, 1).double()


def agree(function: Any, sample: Sample, values: list[torch.Tensor]) -> Iterator[tuple[int, Any]]:
    """Torch's slope and ours, in each argument in which torch has one."""

    def f(arguments: list[Any]) -> tuple[list[Any], list[torch.Tensor]]:
        torch.manual_seed(0)
        results = invoke(function, sample, arguments)
        generator = torch.Generator().manual_seed(1)
        draw = functools.partial(torch.randn, generator=generator, dtype=torch.float64)
        return results, [draw(y.shape).to(y.dtype) for y in results]

    for n, x in enumerate(values):
        # equal entries move together: which of them is meant is up to unstable sorting
        step = (
            torch.sin(3 * x)
            if "quantile" in name_of(function)
            else torch.cos(torch.arange(x.numel(), dtype=x.dtype)).reshape(x.shape)
        )
        expected = slope_of_torch(f, values, n, step)
        if expected is not None:
            with contextlib.suppress(tt.UnsupportedFunction):
                yield n, (own_slope(f, values, n, step), expected)


def is_close(pair: tuple[torch.Tensor, torch.Tensor]) -> bool:
    return torch.allclose(*pair, rtol=1e-6, atol=1e-6)


def cases() -> list[Any]:
    """Every sample of every row, with the first of the row's functions that takes it."""
    found = []
    for rule in ROWS:
        if rule.kind not in ("value", "equation"):
            off, _ = OFF.get(rule.name, ({"": ""}, ""))
            for n, sample in enumerate(rule.samples):
                if off.items() <= sample.kwargs.items():
                    continue
                function = next(f for f in rule.functions if accepts(f, sample))
                found.append(pytest.param(function, sample, id=f"{name_of(function)}-{n}"))
    return found


@pytest.mark.parametrize(("function", "sample"), cases())
def test_slopes_are_those_of_torch(function: Any, sample: Sample) -> None:
    generic = [path[0] for path in draw(sample, 0)]
    # where torch's backward is no derivative of its forward pass, it is none at ties either
    asked = [n for n, pair in agree(function, sample, generic) if is_close(pair)]
    for values in draws(function, sample):
        for n, (got, expected) in agree(function, sample, values):
            assert n not in asked or is_close((got, expected)), (
                f"argument {n} of {values}: {got}, torch {expected}"
            )


def test_a_wrong_slope_at_a_tie_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    (sample,) = next(rule.samples for rule in ROWS if torch.relu in rule.functions)
    test_slopes_are_those_of_torch(torch.relu, sample)
    monkeypatch.setitem(RULES, torch.relu, piecewise(lambda x: x >= 0))
    with pytest.raises(AssertionError, match="argument 0"):
        test_slopes_are_those_of_torch(torch.relu, sample)


def test_torch_is_asked_without_its_engine() -> None:
    with torch.no_grad():
        assert slopes_at(torch.maximum, 1.0, 1.0) == (0.5, 0.5)
        assert slopes_at(torch.relu, 0.0) == (0.0,)
    with torch.inference_mode():
        assert slopes_at(torch.mul, 2.0, 3.0) == (3.0, 2.0)


def test_slopes_of_0_and_1_stay_boolean() -> None:
    x = torch.tensor([-1.0, 0.0, 1.0])
    pieces = (x > 0, (1.0, 0.0)), (x < 0, (0.0, 1.0))
    first, second = by_piece(x, *pieces, (x == 0, (1.0, 0.0)))
    assert first.tolist() == [False, True, True]
    assert second.tolist() == [True, False, False]
    first, second = by_piece(x, *pieces, (x == 0, (0.5, 0.5)))
    assert first.tolist() == [0, 0.5, 1]
    assert second.tolist() == [1, 0.5, 0]
