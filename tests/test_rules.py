"""Every rule against its oracle, generated from the rows of the tables.

A row brings its own sample calls; each is tested for every callable the row serves (function,
method, in-place form) and for every choice of which tensor arguments are series.
"""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch

import taylortorch as tt
from taylortorch.engine.registry import ROWS, name_of
from taylortorch.engine.samples import Sample
from taylortorch.testing.samples import filled, invoke, subsets
from tests.calls import accepts, draw
from tests.oracle import along, contracted
from tests.references import reference_for

ORDERS = (1, 2, 3, 5)


def cases(kinds_left_out: tuple[str, ...] = ("value", "constant")) -> list[Any]:
    return [
        pytest.param(function, sample, id=f"{name_of(function)}-{n}")
        for rule in ROWS
        if rule.kind not in kinds_left_out
        for function in rule.functions
        for n, sample in enumerate(rule.samples)
        if accepts(function, sample)
    ]


@pytest.mark.parametrize(("function", "sample"), cases())
def test_against_reverse_mode(function: Any, sample: Sample) -> None:
    paths = draw(sample, max(ORDERS))
    assert paths
    for chosen in subsets(len(paths)):
        orders = ORDERS if len(chosen) == len(paths) else (2,)
        for order in orders:
            args: list[Any] = [
                tt.TaylorTensor.from_coeffs(p[: order + 1]) if i in chosen else p[0]
                for i, p in enumerate(paths)
            ]
            results = invoke(function, sample, args)
            assert any(isinstance(r, tt.TaylorTensor) for r in results), "no series came out"
            curve = [p[: order + 1] if i in chosen else p[:1] for i, p in enumerate(paths)]
            plain = invoke(function, sample, [p[0] for p in paths])
            generator = torch.Generator().manual_seed(1)
            weights = [
                torch.rand(o.shape, generator=generator, dtype=torch.float64).to(o.dtype)
                for o in plain
            ]
            reference = reference_for(function)
            expected = along(functools.partial(invoke, reference, sample), curve, order, weights)
            for result, value in zip(results, plain, strict=True):
                c0 = result.value if isinstance(result, tt.TaylorTensor) else result
                torch.testing.assert_close(c0, value, rtol=1e-12, atol=1e-12)
            for k in range(order + 1):
                torch.testing.assert_close(
                    contracted(results, weights, k),
                    expected[k].to(torch.float64),
                    rtol=1e-7 if results[0].dtype != torch.float32 else 1e-4,
                    atol=1e-8 if results[0].dtype != torch.float32 else 1e-4,
                    msg=lambda m, k=k, order=order, chosen=chosen: (
                        f"c_{k} of order {order}, series {chosen}: {m}"
                    ),
                )


VALUE_KINDS = [
    pytest.param(rule.kind, function, sample, id=f"{name_of(function)}-{n}")
    for rule in ROWS
    if rule.kind in ("value", "constant")
    for function in rule.functions
    for n, sample in enumerate(rule.samples)
    if accepts(function, sample)
]


@pytest.mark.parametrize(("kind", "function", "sample"), VALUE_KINDS)
def test_a_function_of_the_value(kind: str, function: Any, sample: Sample) -> None:
    """What a plain tensor gives, of a piecewise constant function as a series."""
    paths = draw(sample, 2)
    arguments = ([p[0] for p in paths], [tt.TaylorTensor.from_coeffs(p) for p in paths])
    plain, result = (tree_of(function, sample, values) for values in arguments)
    assert len(plain) == len(result)
    for expected, got in zip(plain, result, strict=True):
        if isinstance(got, tt.TaylorTensor):
            assert kind == "constant"
            assert not any(c.any() for c in got.coeffs[1:])
            got = got.value
        if "empty" in name_of(function):
            assert got.shape == expected.shape
        elif isinstance(expected, torch.Tensor):
            torch.testing.assert_close(got, expected, rtol=0, atol=0, equal_nan=True)
        else:
            assert got == expected


def tree_of(function: Any, sample: Sample, values: list[Any]) -> list[Any]:
    """Everything that the function gives, with random numbers from one seed."""
    stream = iter(values)
    args = filled(sample.args, stream)
    kwargs = {name: filled(a, stream) for name, a in sample.kwargs.items()}
    torch.manual_seed(0)
    result = function(*args, **kwargs)
    return list(result) if isinstance(result, (tuple, list)) else [result]


@pytest.mark.slow
@pytest.mark.parametrize(("function", "sample"), cases(("value", "constant")))
def test_high_order(function: Any, sample: Sample) -> None:
    """Order 7, all tensors series; reverse mode nests seven times here, so only in the sweep."""
    order = 7
    paths = draw(sample, order, seed=2)
    results = invoke(function, sample, [tt.TaylorTensor.from_coeffs(p) for p in paths])
    plain = invoke(function, sample, [p[0] for p in paths])
    generator = torch.Generator().manual_seed(3)
    weights = [
        torch.rand(o.shape, generator=generator, dtype=torch.float64).to(o.dtype) for o in plain
    ]
    reference = reference_for(function)
    expected = along(functools.partial(invoke, reference, sample), paths, order, weights)
    single = results[0].dtype == torch.float32
    for k in range(order + 1):
        torch.testing.assert_close(
            contracted(results, weights, k),
            expected[k].to(torch.float64),
            rtol=1e-3 if single else 1e-6,
            atol=1e-3 if single else 1e-7,
            msg=lambda m, k=k: f"c_{k}: {m}",
        )
