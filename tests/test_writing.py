"""Storing into a series: what overlaps, what a view replays, what its base gets back."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

import taylortorch as tt
from taylortorch.engine.registry import UnsupportedFunction
from taylortorch.engine.writing import adopt, overlaps, reshape_in_place, store, view_of

F64 = torch.float64


def series(*shape: int, order: int = 2, seed: int = 0) -> tt.TaylorTensor:
    generator = torch.Generator().manual_seed(seed)
    return tt.TaylorTensor.from_coeffs(
        [torch.rand(shape, generator=generator, dtype=F64) for _ in range(order + 1)]
    )


def same(got: Any, coefficients: Any) -> None:
    for a, b in zip(got.coeffs, coefficients, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


# --- overlaps -------------------------------------------------------------------------------------


def places(size: tuple[int, ...], stride: tuple[int, ...]) -> list[int]:
    return [
        sum(i * s for i, s in zip(index, stride, strict=True))
        for index in itertools.product(*map(range, size))
    ]


@pytest.mark.parametrize("axes", [0, 1, 2, 3])
def test_overlaps_against_counting_places(axes: int) -> None:
    sizes, strides = ((0, 1, 2, 3), range(6)) if axes == 3 else ((0, 1, 2, 3, 4), range(9))
    found = set()
    for size in itertools.product(sizes, repeat=axes):
        for stride in itertools.product(strides, repeat=axes):
            where = places(size, stride)
            assert overlaps(size, stride) == (len(set(where)) < math.prod(size)), (size, stride)
            found.add(overlaps(size, stride))
    assert found == ({False} if axes == 0 else {False, True})


def test_overlaps_of_interleaved_axes() -> None:
    # neither axis ends before the other begins, and yet no two entries meet
    assert not overlaps((2, 3), (3, 2))
    assert overlaps((3, 3), (3, 2)) == (len(set(places((3, 3), (3, 2)))) < 9)


# --- store ----------------------------------------------------------------------------------------


def test_a_store_replaces_the_blocks_and_keeps_the_object() -> None:
    x, y = series(2, 3), series(2, 3, seed=1)
    before = list(x._blocks)
    values = [block.clone() for block in before]
    assert store(torch.Tensor.copy_, x, y) is x
    same(x, y.coeffs)
    for block, value in zip(before, values, strict=True):
        torch.testing.assert_close(block, value, rtol=0, atol=0)


def test_what_does_not_fit_is_refused_with_both_shapes() -> None:
    with pytest.raises(RuntimeError, match=r"add_: output with shape \[2\].*shape \[3, 2\]"):
        store(torch.Tensor.add_, series(2), series(3, 2))


def test_a_store_casts_as_torch_does() -> None:
    x = tt.TaylorTensor.from_coeffs([c.float() for c in series(2).coeffs])
    y = series(2, seed=1)
    store(torch.Tensor.copy_, x, y)
    assert x.dtype == torch.float32
    same(x, [c.float() for c in y.coeffs])


def test_a_complex_result_does_not_fit_a_real_tensor() -> None:
    z = tt.TaylorTensor.from_coeffs([c + 1j for c in series(2).coeffs])
    with pytest.raises(RuntimeError, match=r"result type torch\.complex128 can't be cast to"):
        store(torch.Tensor.add_, series(2), z)


def test_a_store_without_grad_keeps_the_graph_as_torch_does() -> None:
    w = torch.ones(2, dtype=F64, requires_grad=True)
    x = tt.TaylorTensor.from_coeffs([w * 2, w * 3])
    y = tt.TaylorTensor.from_coeffs([torch.full((2,), 7.0, dtype=F64)] * 2)
    with torch.no_grad():
        store(torch.Tensor.copy_, x, y)
    same(x, y.coeffs)
    (gradient,) = torch.autograd.grad(x.coeffs[0].sum() + 10 * x.coeffs[1].sum(), w)
    assert gradient.tolist() == [32, 32]


# --- views ----------------------------------------------------------------------------------------

VIEWS: dict[str, Callable] = {
    "a row": lambda x: x[1],
    "every other column": lambda x: x[:, ::2],
    "backwards by axes": lambda x: x.permute(2, 0, 1),
    "a diagonal": lambda x: x.diagonal(0, 0, 1),
    "flat": lambda x: x.view(-1),
    "one entry": lambda x: x[1, 2, 3],
    "nothing": lambda x: x[:0],
    "of a view": lambda x: x[1:].transpose(0, 2)[2],
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_a_write_to_a_view_is_scattered_into_its_base(view: Callable) -> None:
    x = series(3, 3, 4)
    expected = [c.clone() for c in x.coeffs]
    part = view(x)
    new = series(*part.shape, seed=1)
    store(torch.Tensor.copy_, part, new)
    # torch itself writes each coefficient through the same view
    for c, block in zip(expected, new.coeffs, strict=True):
        view(c).copy_(block)
    same(x, expected)
    same(part, new.coeffs)


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_a_write_to_the_base_is_replayed_in_its_views(view: Callable) -> None:
    x = series(3, 3, 4)
    part = view(x)
    new = series(3, 3, 4, seed=1)
    store(torch.Tensor.copy_, x, new)
    same(part * 1, [view(c) for c in new.coeffs])


def test_a_view_is_replayed_once_per_write() -> None:
    x, calls = series(3), []

    def replay(base: Any) -> Any:
        calls.append(base)
        return base[1:]

    part = view_of(x, replay, x[1:])
    same(part * 1, [c[1:] for c in x.coeffs])
    assert not calls
    store(torch.Tensor.copy_, x, series(3, seed=1))
    for _ in range(2):
        same(part * 1, [c[1:] for c in series(3, seed=1).coeffs])
    assert calls == [x]


def test_a_view_that_overlaps_itself_is_not_written_to() -> None:
    x = series(1, 3)
    wide = x.expand(2, 3)
    with pytest.raises(RuntimeError, match="more than one element of the written-to tensor"):
        store(torch.Tensor.add_, wide, series(2, 3))


def test_a_write_of_another_order_gives_the_base_its_order() -> None:
    x = series(3, order=1)
    store(torch.Tensor.copy_, x, series(3, order=3))
    assert x.order == 3


# --- shapes ---------------------------------------------------------------------------------------


def test_a_series_takes_another_shape_in_place() -> None:
    x, y = series(2, 3), series(3, 2, seed=1)
    assert reshape_in_place(torch.Tensor.t_, x, y) is x
    assert x.shape == (3, 2)
    same(x, series(3, 2, seed=1).coeffs)


@pytest.mark.parametrize("of", ["the view", "the base"])
def test_no_other_shape_for_what_has_or_is_a_view(of: str) -> None:
    x = series(2, 3)
    part = x[:1]
    target = part if of == "the view" else x
    with pytest.raises(UnsupportedFunction, match=r"t_ changes the shape.*out-of-place"):
        reshape_in_place(torch.Tensor.t_, target, series(3, 2))


# --- plain tensors --------------------------------------------------------------------------------


def test_a_plain_tensor_becomes_the_series() -> None:
    target, result = torch.zeros(2, dtype=F64), series(2)
    assert adopt(torch.Tensor.copy_, target, result) is target
    assert isinstance(target, tt.TaylorTensor)
    same(target, series(2).coeffs)


def test_a_leaf_that_wants_a_gradient_does_not() -> None:
    leaf = torch.zeros(2, dtype=F64, requires_grad=True)
    with pytest.raises(RuntimeError, match="leaf tensor that requires grad"):
        adopt(torch.Tensor.add_, leaf, series(2))
    assert type(leaf) is torch.Tensor


def test_a_tensor_whose_memory_is_seen_elsewhere_does_not() -> None:
    owner = torch.zeros(4, dtype=F64)
    for shared in (owner[:2], owner.detach()[:2]):
        with pytest.raises(UnsupportedFunction, match=r"share and would not see.*zeros_like"):
            adopt(torch.Tensor.add_, shared, series(2))
    with pytest.raises(UnsupportedFunction, match="would not see the coefficients"):
        adopt(torch.Tensor.add_, owner, series(4))
    assert not owner.any()
