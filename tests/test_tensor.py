"""TaylorTensor as a tensor: making one, reading one, Python's protocols, levels, writes, views."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import taylortorch as tt
from taylortorch import TaylorTensor

F64 = torch.float64


def grid(*shape: int) -> torch.Tensor:
    count = int(np.prod(shape, dtype=int))
    return torch.linspace(0.2, 0.9, count, dtype=F64).reshape(shape)


def line(*shape: int, order: int = 2) -> TaylorTensor:
    """A series whose coefficients all differ."""
    return TaylorTensor.from_coeffs([grid(*shape) * (k + 1) - k for k in range(order + 1)])


def bundle(*shape: int, count: int = 3) -> TaylorTensor:
    return TaylorTensor(grid(*shape), directions=grid(count, *shape) - 0.5).exp()


def collapsed(*shape: int, count: int = 3) -> TaylorTensor:
    return TaylorTensor(grid(*shape), directions=grid(count, *shape) - 0.5, weights=1.0).exp()


def multivariate(*shape: int) -> TaylorTensor:
    return tt.variables(grid(*shape), order=2, event_dims=1).exp()


def nested(*shape: int) -> TaylorTensor:
    return TaylorTensor(line(*shape)).exp()


KINDS = (line, bundle, collapsed, multivariate, nested)
every_kind = pytest.mark.parametrize("make", KINDS)


def plain_blocks(x: Any) -> list[torch.Tensor]:
    """All coefficients, of nested series too."""
    if not isinstance(x, TaylorTensor):
        return [x]
    return [b for c in x.coeffs for b in plain_blocks(c)]


def assert_same(x: Any, y: Any) -> None:
    """The same series: order, kind and every coefficient."""
    assert isinstance(x, TaylorTensor) == isinstance(y, TaylorTensor)
    if isinstance(x, TaylorTensor):
        assert (x.order, x._level) == (y.order, y._level)
    for a, b in zip(plain_blocks(x), plain_blocks(y), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


# --- making one -----------------------------------------------------------------------------------


def test_default_direction_is_ones_and_default_order_two() -> None:
    x = TaylorTensor(grid(2, 3))
    assert x.order == 2
    torch.testing.assert_close(x.coeffs[1], torch.ones(2, 3, dtype=F64))
    torch.testing.assert_close((x**3).derivatives[2], 6 * grid(2, 3))


@pytest.mark.parametrize("order", [0, 1, 2, 5])
def test_derivatives_are_coefficients_times_factorials(order: int) -> None:
    y = TaylorTensor(grid(3), order=order).exp()
    assert y.order == order
    assert len(y.coeffs) == len(y.derivatives) == order + 1
    for d in y.derivatives:
        torch.testing.assert_close(d, grid(3).exp())


@pytest.mark.parametrize("shape", [(2, 3), (3,), (1, 3), ()])
def test_a_direction_broadcasts_to_the_value(shape: tuple[int, ...]) -> None:
    v = torch.full(shape, 2.0, dtype=F64)
    y = TaylorTensor(grid(2, 3), direction=v, order=3) ** 2
    torch.testing.assert_close(y.derivatives[1], 4 * grid(2, 3))
    torch.testing.assert_close(y.derivatives[2], torch.full((2, 3), 8.0, dtype=F64))
    assert y.derivatives[3].shape == (2, 3)


def test_directions_give_one_series_each() -> None:
    V = grid(4, 2, 3) - 0.5
    y = TaylorTensor(grid(2, 3), directions=V, order=3).exp()
    assert [tuple(c.shape) for c in y.coeffs] == [(2, 3), (4, 2, 3), (4, 2, 3), (4, 2, 3)]
    for r in range(4):
        one = TaylorTensor(grid(2, 3), direction=V[r], order=3).exp()
        for k in range(1, 4):
            torch.testing.assert_close(y.coeffs[k][r], one.coeffs[k])


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("weights", [1.0, 0.5, torch.tensor([1.0, -2.0, 3.0, 0.0], dtype=F64)])
def test_weights_sum_the_highest_degree_over_directions(order: int, weights: Any) -> None:
    V = grid(4, 2, 3) - 0.5
    y = TaylorTensor(grid(2, 3), directions=V, order=order, weights=weights).exp()
    all_of_them = TaylorTensor(grid(2, 3), directions=V, order=order).exp()
    w = torch.as_tensor(weights, dtype=F64).expand(4)
    torch.testing.assert_close(
        y.coeffs[order], torch.einsum("r,rij->ij", w, all_of_them.coeffs[order])
    )
    for k in range(order):
        torch.testing.assert_close(y.coeffs[k], all_of_them.coeffs[k])


def test_weights_at_order_zero_leave_the_value() -> None:
    y = TaylorTensor(grid(2), directions=grid(3, 2), order=0, weights=1.0).exp()
    assert_same(y, TaylorTensor(grid(2), order=0).exp())


def test_from_coeffs_keeps_them() -> None:
    given = [grid(2, 3), grid(2, 3) - 1, grid(2, 3) * 3]
    x = TaylorTensor.from_coeffs(given)
    for a, b in zip(x.coeffs, given, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert TaylorTensor.from_coeffs(c for c in given).order == 2
    assert TaylorTensor.from_coeffs(given[:1]).order == 0


def test_a_structural_zero_is_read_as_zeros() -> None:
    x = TaylorTensor(grid(2, 3), order=3)
    assert x._blocks[2:] == (None, None)
    y = torch.nn.functional.linear(x, grid(4, 3))
    assert y._blocks[2:] == (None, None)
    torch.testing.assert_close(y.coeffs[2], torch.zeros(2, 4, dtype=F64))
    assert TaylorTensor(grid(2, 3), directions=grid(5, 2, 3)).coeffs[2].shape == (5, 2, 3)


def test_a_shared_direction_stays_of_size_one_until_it_meets_a_sample() -> None:
    X = tt.variables(grid(100, 3))
    h = torch.nn.functional.linear(X, grid(4, 3), grid(4))
    assert h._blocks[1].shape == (3, 1, 4)
    assert h.coeffs[1].shape == (3, 100, 4)
    assert h.tanh()._blocks[1].shape == (3, 100, 4)


# --- reading one ----------------------------------------------------------------------------------


@every_kind
def test_it_looks_like_its_value(make: Callable) -> None:
    x, v = make(4, 3), make(4, 3).value
    assert isinstance(x, torch.Tensor)
    assert torch.is_tensor(x)
    assert x.shape == v.shape == torch.Size([4, 3])
    assert (x.dtype, x.device, x.ndim, len(x)) == (v.dtype, v.device, 2, 4)
    assert x.size(-1) == 3
    assert x.dim() == 2
    assert x.numel() == x.nelement() == 12
    assert x.is_floating_point()
    assert not x.is_complex()
    assert x.is_contiguous()
    assert x.stride() == v.stride()


@every_kind
def test_a_plain_tensor_takes_its_shape(make: Callable) -> None:
    x, index = make(4, 3), torch.tensor([[0], [1], [1], [0]])
    assert type(index.expand_as(x)) is torch.Tensor
    assert torch.equal(index.expand_as(x), index.expand(4, 3))
    assert torch.equal(torch.arange(12).view_as(x), torch.arange(12).view(4, 3))
    assert torch.equal(torch.arange(12).reshape_as(x), torch.arange(12).view(4, 3))


@every_kind
@pytest.mark.parametrize(
    "index",
    [
        1,
        -1,
        slice(1, 3),
        slice(None, None, 2),
        (slice(None), 0),
        (slice(None), slice(0, 1)),
        (..., None),
        (None, 2, ..., 1),
        [0, 2],
        torch.tensor([3, 0, 0]),
        (torch.tensor([1, 0]), torch.tensor([2, 1])),
        torch.tensor([True, False, True, True]),
        (),
        np.int64(2),
    ],
    ids=str,
)
def test_indexing_indexes_every_coefficient(make: Callable, index: Any) -> None:
    x = make(4, 3)
    y = x[index]
    skip = [k > 0 and x._structure.leads(k) for k in range(x.order + 1)]
    for k, (got, c) in enumerate(zip(y.coeffs, x.coeffs, strict=True)):
        expected = torch.stack([row[index] for row in c]) if skip[k] else c[index]
        assert_same(got, expected)


@every_kind
def test_iteration_and_unpacking_give_the_rows(make: Callable) -> None:
    x = make(4, 3)
    rows = list(x)
    assert len(rows) == 4
    for n, row in enumerate(x):
        assert_same(row, x[n])
    _, second, *_ = x
    assert_same(second, x[1])
    assert_same(torch.stack(rows), x)


@every_kind
def test_repr_says_what_it_is(make: Callable) -> None:
    text = repr(make(2, 3))
    assert text.startswith("TaylorTensor(order=2, ")
    assert "shape=(2, 3)" in text
    assert "dtype=torch.float64" in text
    for k in range(3):
        assert f"c_{k} = " in text
    assert str(make(2, 3)) == f"{make(2, 3)}" == text


def test_repr_names_structural_zeros_and_format_applies_to_order_zero() -> None:
    assert "c_2 = 0 (structural zero)" in repr(TaylorTensor(grid(3)))
    assert f"{TaylorTensor(torch.tensor(0.12345), order=0):.2f}" == "0.12"


@every_kind
def test_conversions_convert_every_coefficient(make: Callable) -> None:
    x = make(4, 3)
    for y in (x.to(torch.float32), x.float(), x.type(torch.float32), x.to(torch.zeros(()))):
        assert y.dtype == torch.float32
        assert all(c.dtype == torch.float32 for c in plain_blocks(y))
    assert_same(x.float().double().float(), x.float())
    assert_same(x.cpu(), x)
    assert_same(x.to("cpu"), x)
    assert x.to(F64) is x
    assert x.to(torch.complex128).is_complex()
    assert x.to("meta").coeffs[1].device.type == "meta"


def test_type_without_arguments_names_the_type() -> None:
    assert line(2).type() == "torch.DoubleTensor"


@every_kind
def test_clone_is_independent(make: Callable) -> None:
    x = make(4, 3)
    y = x.clone()
    y.mul_(2)
    assert_same(x, make(4, 3))
    assert_same(y, make(4, 3) * 2)


@every_kind
def test_detach_drops_the_series(make: Callable) -> None:
    x = make(4, 3).detach()
    while make is nested and isinstance(x, TaylorTensor):
        x = x.detach()
    assert type(x) is torch.Tensor
    assert not x.requires_grad


def test_as_tensor_gives_the_same_object() -> None:
    x = line(3)
    assert torch.as_tensor(x) is x
    assert torch.as_tensor(x, dtype=F64) is x


@pytest.mark.parametrize(
    "f",
    [
        lambda a, x: a * x,
        lambda a, x: a + x,
        lambda a, x: a - x,
        lambda a, x: a / x,
        lambda a, x: a**x,
        lambda a, x: x * a,
        lambda a, x: x**a,
    ],
)
def test_numpy_scalars_act_as_numbers(f: Callable) -> None:
    assert_same(f(np.float64(2), line(2, 3)), f(2.0, line(2, 3)))


def test_numpy_scalars_compare_by_value() -> None:
    assert bool((np.float64(2) > line(3)).all())


# --- Python's protocols ---------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize(
    "way", [copy.deepcopy, copy.copy, lambda x: pickle.loads(pickle.dumps(x)), "torch.save"]
)
def test_copies_and_pickles_are_the_same_series(make: Callable, way: Any) -> None:
    x = make(2, 3)
    if way == "torch.save":
        file = io.BytesIO()
        torch.save(x, file)
        file.seek(0)
        y = torch.load(file, weights_only=False)
    else:
        y = way(x)
    assert y is not x
    assert type(y) is type(x)
    assert_same(y, x)


def test_variables_pickled_or_copied_together_still_belong_together() -> None:
    x, t = tt.variables(grid(5, 1), grid(5, 1))
    for a, b in (pickle.loads(pickle.dumps((x, t))), copy.deepcopy((x, t))):
        torch.testing.assert_close(tt.d(a**2 * b, a, b).value, 2 * grid(5, 1))


def test_a_deep_copy_of_the_same_series_twice_is_one_copy() -> None:
    x = line(3)
    a, b = copy.deepcopy([x, x])
    assert a is b


@every_kind
def test_a_series_is_one_leaf_of_a_pytree(make: Callable) -> None:
    x = make(2, 3)
    leaves, spec = torch.utils._pytree.tree_flatten({"x": x})
    assert leaves[0] is x
    assert torch.utils._pytree.tree_unflatten(leaves, spec)["x"] is x
    assert_same(torch.utils._pytree.tree_map(lambda leaf: leaf.sin() + 1, [x])[0], x.sin() + 1)


def test_requires_grad_when_any_coefficient_does() -> None:
    w = torch.ones(3, dtype=F64, requires_grad=True)
    assert not line(3).requires_grad
    assert TaylorTensor(w).requires_grad
    assert TaylorTensor(grid(3), direction=w).requires_grad
    assert (line(3) * w).requires_grad
    assert not line(3).is_leaf or line(3).grad_fn is None


def test_requires_grad_sets_it_on_the_value() -> None:
    x = TaylorTensor(grid(3))
    assert x.requires_grad_() is x
    assert x.value.requires_grad
    (x**3).coeffs[1].sum().backward()
    torch.testing.assert_close(x.value.grad, 6 * grid(3))


def test_backward_at_order_zero_reaches_the_leaf() -> None:
    w = grid(3).requires_grad_()
    (TaylorTensor(w, order=0) ** 2).sum().backward()
    torch.testing.assert_close(w.grad, 2 * grid(3))


# --- levels ---------------------------------------------------------------------------------------


def test_nested_expansions_differentiate_twice() -> None:
    inner = TaylorTensor(grid(3), order=2)
    y = TaylorTensor(inner, order=3) ** 5
    x = grid(3)
    for outer in range(4):
        for within in range(3):
            k = outer + within
            expected = torch.tensor(5.0, dtype=F64) - torch.arange(k, dtype=F64)
            expected = expected.prod() * x ** (5 - k)
            torch.testing.assert_close(y.derivatives[outer].derivatives[within], expected)


def test_no_perturbation_confusion() -> None:
    # d/dx (x * d/dy (x + y)) at y = x is 1; confusing the two perturbations gives 2
    x = TaylorTensor(torch.tensor(3.0, dtype=F64), order=1)
    y = TaylorTensor(torch.zeros_like(x), order=1)
    inner = (x + y).coeffs[1]
    assert (x * inner).coeffs[1].item() == 1.0


def test_a_series_of_a_lower_level_is_a_constant_above() -> None:
    x = TaylorTensor(grid(2), order=2)
    y = TaylorTensor(x.detach().clone(), order=2)
    z = TaylorTensor(x, order=2)
    assert (y * x)._level == 0
    assert (z * x)._level == 1
    assert_same((z * x).coeffs[1], x)


def test_a_laplacian_of_a_laplacian() -> None:
    point = grid(5, 3)
    eye = torch.eye(3, dtype=F64)[:, None, :]

    def laplacian(f: Callable, x: Any) -> Any:
        y = f(TaylorTensor(x, directions=eye.expand(3, *x.shape), order=2, weights=1.0))
        return 2 * y.coeffs[2]

    def f(x: Any) -> Any:
        return (x**2).sum(-1) ** 2

    got = laplacian(lambda x: laplacian(f, x), point)
    torch.testing.assert_close(got, torch.full((5,), 120.0, dtype=F64))


# --- writes and views -----------------------------------------------------------------------------


def written(x: Any, write: Callable[[Any], Any]) -> Any:
    """``x`` after a write into a copy of it."""
    x = x * 1.0
    write(x)
    return x


WRITES: dict[str, tuple[Callable, Callable]] = {
    # what is written in place, and the same without writing
    "mul_": (lambda x: x.mul_(3), lambda x: x * 3),
    "iadd": (lambda x: x.__iadd__(x), lambda x: x + x),
    "exp_": (lambda x: x.exp_(), lambda x: x.exp()),
    "torch.tanh_": (torch.tanh_, torch.tanh),
    "relu(inplace)": (
        lambda x: torch.nn.functional.relu(x.sub_(0.5), inplace=True),
        lambda x: torch.relu(x - 0.5),
    ),
    "zero_": (lambda x: x.zero_(), lambda x: x * 0),
    "copy_": (lambda x: x.copy_(x.flip(0)), lambda x: x.flip(0)),
    "setitem": (
        lambda x: x.__setitem__((slice(None), 0), 7.0),
        lambda x: torch.cat([torch.full_like(x[:, :1], 7.0), x[:, 1:]], 1),
    ),
    "column": (lambda x: x[:, 1].mul_(2), lambda x: x * torch.tensor([1.0, 2, 1])),
    "row of transpose": (lambda x: x.t()[2].neg_(), lambda x: x * torch.tensor([1.0, 1, -1])),
    "slice of a slice": (
        lambda x: x[1:][1:].mul_(5),
        lambda x: torch.cat([x[:2], x[2:] * 5]),
    ),
    "view": (lambda x: x.view(-1).mul_(2), lambda x: x * 2),
    "narrow of reshape": (
        lambda x: x.reshape(12).narrow(0, 0, 3).mul_(0),
        lambda x: torch.cat([x[:1] * 0, x[1:]]),
    ),
    "chunk": (lambda x: x.chunk(2)[1].mul_(2), lambda x: torch.cat([x[:2], 2 * x[2:]])),
    "split": (lambda x: x.split(2)[0].mul_(2), lambda x: torch.cat([2 * x[:2], x[2:]])),
    "unbind": (lambda x: x.unbind(0)[3].mul_(2), lambda x: torch.cat([x[:3], 2 * x[3:]])),
    "masked": (lambda x: x.__setitem__(x.value > 2, 0.0), lambda x: torch.where(x > 2, 0.0, x)),
    "unsqueeze, permute": (
        lambda x: x.unsqueeze(0).permute(2, 1, 0)[0].mul_(2),
        lambda x: x * torch.tensor([2.0, 1, 1]),
    ),
    "diagonal": (
        lambda x: x[:3].diagonal().mul_(2),
        lambda x: x * (1 + torch.eye(4, 3, dtype=F64)),
    ),
}


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("make", KINDS)
def test_a_write_shows_in_the_tensor_it_was_made_through(make: Callable, name: str) -> None:
    if make is nested and name == "masked":
        make = line
    write, without = WRITES[name]
    assert_same(written(make(4, 3), write), without(make(4, 3)))


@every_kind
def test_a_view_shows_what_is_written_through_its_base_and_other_views(make: Callable) -> None:
    x = make(4, 3) * 1.0
    column, rows, flat = x[:, 0], x[1:3], x.view(12)
    corner = rows[:, 1:]
    x.mul_(2)
    assert_same(column, 2 * make(4, 3)[:, 0])
    corner.add_(1)
    expected = 2 * make(4, 3)
    expected[1:3, 1:] = expected[1:3, 1:] + 1
    assert_same(x, expected)
    assert_same(rows, expected[1:3])
    assert_same(flat, expected.reshape(12))
    column.zero_()
    assert_same(x[:, 1:], expected[:, 1:])
    assert_same(flat[::3], 0 * expected[:, 0])


def test_an_expanded_view_follows_its_base() -> None:
    x = line(3, 1) * 1.0
    wide = x.expand(3, 4)
    x.mul_(2)
    assert_same(wide, (2 * line(3, 1)) * torch.ones(1, 4, dtype=F64))


def test_writing_into_an_expanded_view_is_refused_as_torch_refuses_it() -> None:
    with pytest.raises(RuntimeError, match="single memory location"):
        line(3, 1).expand(3, 4).mul_(2)


def test_what_was_computed_before_a_write_keeps_its_value() -> None:
    x = line(3) * 1.0
    before = x.exp()
    x.zero_()
    assert_same(before, line(3).exp())


def test_a_write_keeps_shape_and_dtype_as_torch_does() -> None:
    x = line(3)
    with pytest.raises(RuntimeError, match=r"add_.*shape"):
        x.add_(torch.ones(2, 3, dtype=F64))
    with pytest.raises(RuntimeError, match="can't be cast"):
        x.mul_(1j)
    y = line(3).float()
    y.add_(torch.ones(3, dtype=F64))
    assert y.dtype == torch.float32


def test_gradients_pass_through_writes() -> None:
    w = torch.tensor(2.0, dtype=F64, requires_grad=True)
    x = TaylorTensor(grid(4)) * 1.0
    x[1:3] *= w
    (gradient,) = torch.autograd.grad(x.coeffs[0].sum() + x.coeffs[1].sum(), w)
    torch.testing.assert_close(gradient, grid(4)[1:3].sum() + 2)


# --- plain tensors that a series is written into --------------------------------------------------


def filled_by_setitem(out: torch.Tensor, x: TaylorTensor) -> None:
    out[:, 0] = x[:, 0]
    out[:, 1:] = x[:, 1:]


ADOPTIONS: dict[str, Callable] = {
    "setitem": filled_by_setitem,
    "copy_": lambda out, x: out.copy_(x),
    "add_": lambda out, x: out.zero_().add_(x),
    "iadd": lambda out, x: out.zero_().__iadd__(x),
    "index_add_": lambda out, x: out.zero_().index_add_(0, torch.arange(4), x),
    "addcmul_": lambda out, x: out.zero_().addcmul_(x, torch.ones_like(x.value)),
    "by mask": lambda out, x: out.__setitem__(torch.ones(4, 3) > 0, x.view(12)),
}


@pytest.mark.parametrize("fill", ADOPTIONS.values(), ids=ADOPTIONS)
@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("allocate", [torch.zeros, torch.empty, torch.ones])
def test_a_preallocated_tensor_becomes_the_series(
    allocate: Callable, make: Callable, fill: Callable
) -> None:
    out = allocate(4, 3, dtype=F64)
    same = out
    fill(out, make(4, 3))
    assert isinstance(same, TaylorTensor)
    assert_same(same, make(4, 3))


def test_zeros_like_a_series_can_be_written_into_through_views() -> None:
    x = bundle(4, 3)
    for empty in (torch.zeros_like(x), x.new_zeros(4, 3), torch.empty_like(x)):
        top, rest = empty[0], empty[1:]
        top.copy_(x[0])
        rest.copy_(x[1:])
        assert_same(empty, x)


def test_a_list_of_slots_is_filled_in_a_loop() -> None:
    x, steps = line(3), torch.zeros(4, 3, dtype=F64)
    for n in range(4):
        steps[n] = x * n if n == 0 else steps[n - 1] + x
    assert_same(steps[3], x * 3)


ALIASES: dict[str, Callable] = {
    "a view": lambda out: out[0],
    "a flat view": lambda out: out.view(-1),
    ".data": lambda out: out.data,
    "detach": lambda out: out.detach(),
    "an array": lambda out: out.numpy(),
}


@pytest.mark.parametrize("alias", ALIASES.values(), ids=ALIASES)
def test_a_plain_tensor_that_others_share_is_not_written_to(alias: Callable) -> None:
    out = torch.zeros(4, 3, dtype=F64)
    other = alias(out)
    with pytest.raises(tt.UnsupportedFunction, match=r"zeros_like\(x\)"):
        out[1] = line(3)
    assert type(out) is torch.Tensor
    assert (np.asarray(other) == 0).all()
    del other


def test_a_view_of_a_plain_tensor_is_not_written_to() -> None:
    out = torch.zeros(4, 3, dtype=F64)
    for write in (lambda: out[0].copy_(line(3)), lambda: out.t().add_(line(3, 4))):
        with pytest.raises(tt.UnsupportedFunction, match=r"views, \.data"):
            write()


def test_an_array_in_torchs_clothes_is_not_written_to() -> None:
    out = torch.from_numpy(np.zeros((4, 3)))
    with pytest.raises(tt.UnsupportedFunction, match=r"zeros_like\(x\)"):
        out.add_(line(4, 3))


def test_a_leaf_that_requires_grad_is_not_written_to() -> None:
    w = torch.zeros(4, 3, dtype=F64, requires_grad=True)
    with pytest.raises(RuntimeError, match="leaf"):
        w.add_(line(4, 3))
    p = torch.nn.Parameter(torch.zeros(3, dtype=F64))
    with torch.no_grad(), pytest.raises(RuntimeError, match="leaf"):
        p.copy_(line(3))


def test_a_tensor_that_autograd_still_needs_is_not_written_to() -> None:
    w = torch.ones(3, dtype=F64, requires_grad=True)
    out = w * 2
    y = out.exp()
    try:
        out.mul_(line(3))
    except (RuntimeError, tt.UnsupportedFunction):
        return
    # if it was written to, what was computed before must not have changed
    y.sum().backward()
    torch.testing.assert_close(w.grad, 2 * torch.full((3,), 2.0, dtype=F64).exp())
