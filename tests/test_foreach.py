"""Functions of lists: at each position what the function of one tensor gives, also in place."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import taylortorch as tt
from taylortorch.engine.registry import RULES, holds_here
from taylortorch.rules.foreach import IN_PLACE, OUT_OF_PLACE, OWN, SAMPLES, at_each_position
from taylortorch.testing.samples import filled, tensors_in


def values_of(sample: Any) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [spec.draw(generator) for spec in tensors_in((sample.args, *sample.kwargs.values()))]


def series_of(values: list[torch.Tensor], moving: range) -> list[Any]:
    generator = torch.Generator().manual_seed(1)
    return [
        tt.TaylorTensor.from_coeffs(
            [x.clone(), *(torch.randn(x.shape, generator=generator).double() for _ in range(3))]
        )
        if n in moving
        else x.clone()
        for n, x in enumerate(values)
    ]


def at(n: int, argument: Any) -> Any:
    packed = isinstance(argument, torch.Tensor) and argument.ndim == 1
    return argument[n] if packed or isinstance(argument, (list, tuple)) else argument


def rule_of(name: str) -> Any:
    """The rule that torch's own function of lists has, or, before it came, would have."""
    if holds_here(since="2.15"):
        path = getattr(torch.foreach, name)
        return lambda args, kwargs: RULES[path](path, args, kwargs)
    writes = name.endswith("_")
    plain = name.removesuffix("_")
    table = OUT_OF_PLACE | IN_PLACE
    if name in table:
        single = table[name][0]
    elif plain in OWN:
        single = OWN[plain][writes]
    else:
        single = getattr(torch.Tensor if writes else torch, name)
    evaluate = at_each_position(single, writes)
    return lambda args, kwargs: evaluate(single, args, kwargs)


def assert_same(a: Any, b: Any) -> None:
    assert isinstance(a, tt.TaylorTensor) == isinstance(b, tt.TaylorTensor)
    pairs = zip(a.coeffs, b.coeffs, strict=True) if isinstance(a, tt.TaylorTensor) else [(a, b)]
    for x, y in pairs:
        torch.testing.assert_close(x, y, rtol=0, atol=0, equal_nan=True)


NAMES = [*SAMPLES, *(f"{name}_" for name in SAMPLES)]
CASES = [(name, n) for name in NAMES for n in range(len(SAMPLES[name.removesuffix("_")]))]
CASES = [case for case in CASES if case != ("pow_", len(SAMPLES["pow"]) - 1)]


@pytest.mark.parametrize(("name", "n"), CASES)
@pytest.mark.parametrize("all_move", [True, False])
def test_each_position_is_the_function_of_one_tensor(name: str, n: int, all_move: bool) -> None:
    """With every tensor a series, and with the first of them alone."""
    sample = SAMPLES[name.removesuffix("_")][n]
    values = values_of(sample)
    moving = range(len(values)) if all_move else range(1)

    def arguments() -> tuple[tuple, dict]:
        stream = iter(series_of(values, moving))
        args = filled(sample.args, stream)
        return args, {key: filled(a, stream) for key, a in sample.kwargs.items()}

    args, kwargs = arguments()
    result = rule_of(name)(args, kwargs)
    singly, given = arguments()
    base = name.removesuffix("_")
    if base in ("maximum", "minimum"):
        single: Any = OWN[base][0]
    else:
        single = getattr(torch, base)
    positions = [
        single(*(at(i, a) for a in singly), **{key: at(i, a) for key, a in given.items()})
        for i in range(2)
    ]
    assert len(result) == 2
    if name.endswith("_"):
        assert result is args[0]
    else:
        assert type(result) is tuple
    for got, expected in zip(result, positions, strict=True):
        assert_same(got, expected)


def test_what_is_written_may_be_plain_before() -> None:
    source, target = series_of([torch.rand(3).double()], range(1)), [torch.zeros(3).double()]
    assert rule_of("copy_")((target, source), {}) is target
    assert_same(target[0], source[0])
    assert rule_of("zero_")((target,), {}) is target
    assert not any(c.any() for c in target[0].coeffs)


def test_lists_of_different_lengths_raise() -> None:
    (x,) = series_of([torch.rand(3).double()], range(1))
    with pytest.raises(ValueError, match="different lengths"):
        rule_of("add")(([x, x], [x]), {})
