"""Lifts: however a function is called on directions, it is the function of each of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from taylortorch.engine.lifts import (
    as_is,
    by_axes,
    by_broadcasting,
    by_vmap,
    from_the_end,
    one_by_one,
)

COUNT = 3


def grid(*shape: int) -> torch.Tensor:
    return torch.linspace(-1, 2, torch.Size(shape).numel(), dtype=torch.float64).reshape(shape)


def in_turn(func: Callable, args: Sequence[Any], kwargs: dict, leads: set) -> Any:
    """What a lift means: a call per direction."""
    results = []
    for n in range(COUNT):
        results.append(func(*(a[n] if i in leads else a for i, a in enumerate(args)), **kwargs))
    if isinstance(results[0], (tuple, list)):
        return [torch.stack(parts) for parts in zip(*results, strict=True)]
    return torch.stack(results)


def agree(lift: Callable, func: Callable, args: Sequence[Any], kwargs: dict, leads: set) -> None:
    given = list(args)
    got = lift(func, given, dict(kwargs), set(leads))
    assert len(given) == len(args)
    assert all(a is b for a, b in zip(given, args, strict=True)), "the caller's arguments"
    expected = in_turn(func, args, kwargs, leads)
    if isinstance(expected, list):
        assert len(got) == len(expected)
        pairs = list(zip(got, expected, strict=True))
    else:
        pairs = [(got, expected)]
    for a, b in pairs:
        torch.testing.assert_close(a, b, rtol=1e-14, atol=1e-14)


ANY = [
    pytest.param(torch.matmul, (grid(COUNT, 2, 4), grid(4, 5)), {0}, id="first of two"),
    pytest.param(torch.matmul, (grid(2, 4), grid(COUNT, 4, 5)), {1}, id="second of two"),
    pytest.param(torch.matmul, (grid(COUNT, 2, 4), grid(COUNT, 4, 5)), {0, 1}, id="both"),
    pytest.param(F.linear, (grid(COUNT, 2, 4), grid(5, 4), grid(COUNT, 5)), {0, 2}, id="a gap"),
    pytest.param(torch.unbind, (grid(COUNT, 2, 4), 1), {0}, id="several results"),
    pytest.param(lambda x: [x, 2 * x], (grid(COUNT, 2),), {0}, id="a list of results"),
]


@pytest.mark.parametrize(("func", "args", "leads"), ANY)
@pytest.mark.parametrize("lift", [by_vmap, one_by_one])
def test_any_function(lift: Callable, func: Callable, args: tuple, leads: set) -> None:
    agree(lift, func, args, {}, leads)


@pytest.mark.parametrize("lift", [by_vmap, one_by_one])
def test_other_arguments_are_passed_on(lift: Callable) -> None:
    agree(lift, torch.sum, (grid(COUNT, 2, 4),), {"dim": 1, "keepdim": True}, {0})


def test_one_by_one_calls_a_function_that_reads_its_numbers() -> None:
    def norm(x: torch.Tensor) -> torch.Tensor:
        return x * float(x.abs().max())

    agree(one_by_one, norm, (grid(COUNT, 2),), {}, {0})
    with pytest.raises(RuntimeError):
        by_vmap(norm, [grid(COUNT, 2)], {}, {0})


# every rank against every rank, and each of them with directions or without
RANKS = list(itertools.product([(), (4,), (2, 4), (2, 1), (3, 2, 4)], repeat=2))


@pytest.mark.parametrize(("one", "other"), RANKS)
@pytest.mark.parametrize("leads", [{0}, {1}, {0, 1}])
def test_broadcasting_aligns_values_and_not_directions(
    one: tuple[int, ...], other: tuple[int, ...], leads: set
) -> None:
    shapes = [(COUNT, *s) if i in leads else s for i, s in enumerate((one, other))]
    agree(by_broadcasting, torch.mul, [grid(*s) + 1 for s in shapes], {}, leads)


def test_broadcasting_with_numbers_and_three_tensors() -> None:
    agree(by_broadcasting, torch.mul, (grid(COUNT, 2), 3.0), {}, {0})
    args = (grid(2, 4) > 0, grid(COUNT, 4), grid(COUNT, 2, 1))
    agree(by_broadcasting, torch.where, args, {}, {1, 2})


AXES = [
    (torch.sum, by_axes(("dim", 1, None)), [(), (None,), (0,), (-1,), (1,), ((0, 2),), ((-1, 1),)]),
    (torch.cumsum, by_axes(("dim", 1, None)), [(0,), (2,), (-3,), (-1,)]),
    (torch.softmax, by_axes(("dim", 1, None)), [(0,), (1,), (-2,)]),
    (torch.flip, by_axes(("dims", 1, None)), [((0,),), ((0, 1, 2),), ([-1, 0],)]),
    (torch.transpose, by_axes(("dim0", 1, None), ("dim1", 2, None)), [(0, 1), (-1, 0), (2, 1)]),
    (torch.flatten, by_axes(("start_dim", 1, 0), ("end_dim", 2, -1)), [(), (1,), (0, 1), (-2, -1)]),
]


@pytest.mark.parametrize(
    ("func", "lift", "rest"),
    [
        pytest.param(func, lift, rest, id=f"{func.__name__}-{rest}")
        for func, lift, every in AXES
        for rest in every
    ],
)
def test_axes_count_from_the_end(func: Callable, lift: Callable, rest: tuple) -> None:
    x = grid(COUNT, 2, 5, 4)
    agree(lift, func, (x, *rest), {}, {0})
    torch.testing.assert_close(
        lift(func, [x, *rest], {}, {0}), by_vmap(func, [x, *rest], {}, {0}), rtol=1e-14, atol=1e-14
    )


def test_axes_by_name() -> None:
    lift = by_axes(("dim", 1, None))
    kwargs = {"dim": 0, "keepdim": True}
    agree(lift, torch.sum, (grid(COUNT, 2, 4),), kwargs, {0})
    assert kwargs == {"dim": 0, "keepdim": True}


def test_axes_of_a_number_without_axes() -> None:
    # no axis from the end means the same there
    agree(by_axes(("dim", 1, None)), torch.cumsum, (grid(COUNT), 0), {}, {0})


def test_axes_of_random_calls() -> None:
    generator = torch.Generator().manual_seed(0)
    lift = by_axes(("dim", 1, None))
    for _ in range(40):
        rank = int(torch.randint(1, 5, (), generator=generator))
        sizes = torch.randint(1, 4, (rank,), generator=generator).tolist()
        count = int(torch.randint(0, rank + 1, (), generator=generator))
        axes = torch.randperm(rank, generator=generator)[:count].tolist()
        axes = tuple(a - rank if n % 2 else a for n, a in enumerate(axes))
        for func in (torch.sum, torch.amax, torch.logsumexp):
            if axes:
                agree(lift, func, (grid(COUNT, *sizes), axes), {}, {0})


@pytest.mark.parametrize(
    ("axes", "rank", "counted"),
    [(0, 3, -3), (2, 3, -1), (-1, 3, -1), ((0, -1), 2, (-2, -1)), ([1, (0,)], 2, (-1, (-2,)))],
)
def test_from_the_end(axes: Any, rank: int, counted: Any) -> None:
    assert from_the_end(axes, rank) == counted


def test_functions_of_the_last_axes() -> None:
    calls: list[tuple[int, ...]] = []

    def inverse(x: torch.Tensor) -> torch.Tensor:
        calls.append(tuple(x.shape))
        return torch.linalg.inv(x)

    x = grid(COUNT, 2, 2) + 3 * torch.eye(2, dtype=torch.float64)
    agree(as_is, inverse, (x,), {}, {0})
    # once with all directions, then in_turn
    assert calls == [(COUNT, 2, 2), *[(2, 2)] * COUNT]
    agree(as_is, torch.matmul, (grid(2, 4), grid(COUNT, 4, 5)), {}, {1})
