"""Every rule against its oracle, generated from the rows of the tables.

A row brings its own sample calls; each is tested for every callable the row serves (function,
method, in-place form) and for every choice of which tensor arguments are series.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

import pytest
import torch

import taylortorch as tt
from taylortorch.registry import ROWS, Sample, T, name_of
from tests.oracle import along, contracted
from tests.references import REFERENCES

ORDERS = (1, 2, 3, 5)


def tensors_in(tree: Any) -> list[T]:
    if isinstance(tree, T):
        return [tree]
    if isinstance(tree, (list, tuple)):
        return [found for item in tree for found in tensors_in(item)]
    return []


def filled(tree: Any, values: Any) -> Any:
    """The arguments with the next of ``values`` in the place of each ``T``."""
    if isinstance(tree, T):
        return next(values)
    if isinstance(tree, list):
        return [filled(item, values) for item in tree]
    if type(tree) is tuple:
        return tuple(filled(item, values) for item in tree)
    return tree


def outputs_of(result: Any) -> list[torch.Tensor]:
    """The differentiable tensors among the results."""
    items = result if isinstance(result, (tuple, list)) else [result]
    return [
        o
        for o in items
        if isinstance(o, torch.Tensor) and (o.is_floating_point() or o.is_complex())
    ]


def invoke(function: Any, sample: Sample, values: list[torch.Tensor]) -> list[torch.Tensor]:
    stream = iter(values)
    args = filled(sample.args, stream)
    kwargs = {name: filled(a, stream) for name, a in sample.kwargs.items()}
    return outputs_of(function(*args, **kwargs))


def accepts(function: Any, sample: Sample) -> bool:
    """Whether torch itself takes this call: methods know fewer forms than functions."""
    try:
        invoke(function, sample, [p[0] for p in draw(sample, 0)])
    except (TypeError, AttributeError):
        return False
    return True


def draw(sample: Sample, order: int, seed: int = 0) -> list[list[torch.Tensor]]:
    """A random polynomial path through the sample's point for each of its tensors."""
    generator = torch.Generator().manual_seed(seed)
    paths = []
    for spec in tensors_in((sample.args, tuple(sample.kwargs.values()))):
        base = spec.draw(generator)
        higher = [
            torch.rand(spec.shape, generator=generator, dtype=torch.float64) - 0.5
            for _ in range(order)
        ]
        paths.append([base, *higher])
    return paths


def subsets(count: int) -> list[tuple[int, ...]]:
    indices = range(count)
    every = [s for r in range(1, count + 1) for s in itertools.combinations(indices, r)]
    return every if count <= 3 else [(i,) for i in indices] + [tuple(indices)]


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
            reference = REFERENCES.get(name_of(function).split(".")[-1], function)
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
    reference = REFERENCES.get(name_of(function).split(".")[-1], function)
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
