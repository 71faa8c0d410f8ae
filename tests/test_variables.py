"""``tt.variables`` and ``tt.d``: partial derivatives for those who hold ``u`` and ``x``."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch

import taylortorch as tt
from taylortorch import TaylorTensor

F64 = torch.float64


def grid(*shape: int, low: float = 0.2, high: float = 0.9) -> torch.Tensor:
    return torch.linspace(low, high, torch.Size(shape).numel(), dtype=F64).reshape(shape)


def mlp(inputs: int, outputs: int = 1, width: int = 8) -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(inputs, width),
        torch.nn.Tanh(),
        torch.nn.Linear(width, width),
        torch.nn.Softplus(),
        torch.nn.Linear(width, outputs),
    ).double()


def partial(u: torch.Tensor, *wrt: torch.Tensor) -> torch.Tensor:
    """The same derivative by nested autograd, for a ``u`` that is sample by sample."""
    for x in wrt:
        (u,) = torch.autograd.grad(
            u.sum(), x, create_graph=True, materialize_grads=True, allow_unused=True
        )
    return u


def same(a: Any, b: torch.Tensor) -> None:
    value = a.value if isinstance(a, TaylorTensor) else a
    torch.testing.assert_close(value, b, rtol=1e-9, atol=1e-10)


# --- making them ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "event_dims", "coordinates"),
    [
        ((), None, 1),
        ((7,), None, 1),
        ((7, 1), None, 1),
        ((7, 3), None, 3),
        ((7, 3), 0, 1),
        ((3,), 1, 3),
        ((2, 4, 3), 2, 12),
        ((2, 4, 3), 1, 3),
        ((2, 4, 3), 0, 1),
        ((2, 4, 3), 3, 24),
    ],
)
def test_every_coordinate_of_a_sample_is_a_variable(
    shape: tuple[int, ...], event_dims: int | None, coordinates: int
) -> None:
    x = tt.variables(grid(*shape), order=2, event_dims=event_dims)
    assert x.shape == shape
    assert x.coeffs[1].shape == (coordinates, *shape)
    assert x.coeffs[2].shape == (coordinates * (coordinates + 1) // 2, *shape)
    assert [len(indices) for indices in x.multi_indices] == [1, *(len(c) for c in x.coeffs[1:])]
    # each entry depends on its own coordinate alone
    same((x.coeffs[1] ** 2).sum(0), torch.ones(shape, dtype=F64))


def test_a_single_variable_comes_bare_and_several_as_a_tuple() -> None:
    assert isinstance(tt.variables(grid(3)), TaylorTensor)
    assert isinstance(tt.variables(grid(3), grid(3)), tuple)
    x, t, z = tt.variables(grid(3), grid(3), grid(3), order=1)
    assert x.multi_indices[1] == ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    assert (x.order, t.order, z.order) == (1, 1, 1)


def test_event_dims_one_per_variable() -> None:
    particles, time = tt.variables(grid(2, 4, 3), grid(2), event_dims=(2, 0), order=1)
    assert particles.coeffs[1].shape == (13, 2, 4, 3)
    assert time.coeffs[1].shape == (13, 2)
    energy = (particles**2).sum((1, 2)) * time
    same(tt.d(energy, time), (grid(2, 4, 3) ** 2).sum((1, 2)))
    same(tt.d(energy, particles[:, 2, 1]), 2 * grid(2, 4, 3)[:, 2, 1] * grid(2))


def test_coefficients_are_in_the_order_of_their_multi_indices() -> None:
    x, y = tt.variables(grid(4), grid(4), order=3)
    u = x**2 * y + y**3
    found = {index: (k, n) for k, row in enumerate(u.multi_indices) for n, index in enumerate(row)}
    expected = {(2, 1): 2.0, (0, 3): 6.0, (1, 2): 0.0, (3, 0): 0.0}
    for index, value in expected.items():
        k, n = found[index]
        same(u.derivatives[k][n], torch.full((4,), value, dtype=F64))


# --- derivatives ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6, 1), (6,), ()])
def test_every_partial_up_to_order_four_of_two_columns(shape: tuple[int, ...]) -> None:
    def f(x: Any, t: Any) -> Any:
        return torch.sin(x * t) * torch.exp(-(x**2)) + t / (1 + x**2)

    x0, t0 = grid(*shape).requires_grad_(), grid(*shape, low=0.5).requires_grad_()
    x, t = tt.variables(x0.detach(), t0.detach(), order=4)
    u, reference = f(x, t), f(x0, t0)
    for k in range(1, 5):
        for wrt in itertools.combinations_with_replacement("xt", k):
            got = tt.d(u, *({"x": x, "t": t}[name] for name in wrt))
            expected = partial(reference, *({"x": x0, "t": t0}[name] for name in wrt))
            assert got.order == 4 - k
            same(got, expected)


def test_a_network_of_concatenated_columns() -> None:
    net = mlp(2)
    x0, t0 = grid(9, 1).requires_grad_(), grid(9, 1, low=-1).requires_grad_()
    x, t = tt.variables(x0.detach(), t0.detach(), order=3)
    u, reference = net(torch.cat([x, t], 1)), net(torch.cat([x0, t0], 1))
    same(tt.d(u, x, x, t), partial(reference, x0, x0, t0))
    same(tt.d(u, t), partial(reference, t0))
    same(tt.d(tt.d(u, t), x, x), partial(reference, x0, x0, t0))


def test_order_repeats_the_variable() -> None:
    x = tt.variables(grid(5), order=3)
    same(tt.d(x.exp(), x, order=3), grid(5).exp())
    same(tt.d(x**3, x, order=2), 6 * grid(5))
    same(tt.d(x**3, x, order=0), grid(5) ** 3)


SLICES: dict[str, Callable] = {
    "X[:, 1:2]": lambda X: X[:, 1:2],
    "X[:, 1]": lambda X: X[:, 1],
    "X[..., 1]": lambda X: X[..., 1],
    "X[:, -2]": lambda X: X[:, -2],
    "X[:, [1]]": lambda X: X[:, 1:][:, :1],
    "split": lambda X: X.split(1, 1)[1],
    "unbind": lambda X: X.unbind(1)[1],
    "chunk": lambda X: X.chunk(3, dim=1)[1],
    "select": lambda X: X.select(1, 1),
    "narrow": lambda X: X.narrow(1, 1, 1),
    "X.T[1]": lambda X: X.T[1],
    "X[2:, 1]": lambda X: X[:, 1].unsqueeze(-1),
}


@pytest.mark.parametrize("take", SLICES.values(), ids=SLICES)
@pytest.mark.parametrize("batch", [1, 6])
@pytest.mark.parametrize("when", ["before", "after"])
def test_slices_of_points_are_variables(take: Callable, batch: int, when: str) -> None:
    net = mlp(3)
    X0 = grid(batch, 3).requires_grad_()
    X = tt.variables(X0.detach(), order=2)
    if when == "before":
        y = take(X)
        u = net(X)[:, 0] * X[:, 0]
    else:
        u = net(X)[:, 0] * X[:, 0]
        y = take(X)
    gradient = partial(net(X0)[:, 0] * X0[:, 0], X0)
    same(tt.d(u, y), gradient[:, 1])
    same(tt.d(u, y, X[:, 2]), partial(gradient[:, 1], X0)[:, 2])


def test_a_model_that_takes_its_input_apart() -> None:
    def f(X: Any) -> Any:
        x, t = X[:, 0:1], X[:, 1:2]
        return torch.exp(-t) * torch.sin(x) + x * t

    X = tt.variables(grid(6, 2), order=3)
    x0, t0 = grid(6, 2).split(1, 1)
    x, t = X[:, 0:1], X[:, 1:2]
    same(tt.d(f(X), x, x, t), torch.exp(-t0) * torch.sin(x0))
    same(tt.d(f(X), x, t), 1 - torch.exp(-t0) * torch.cos(x0))


def test_expressions_of_derivatives_are_differentiated() -> None:
    r0 = grid(7, 1)
    r = tt.variables(r0, order=3)
    same(tt.d(r**2 * tt.d(r**3, r), r), 12 * r0**3)
    u = torch.sin(r)
    same(tt.d(u * tt.d(u, r), r), torch.cos(2 * r0))
    same(tt.d(tt.d(r**2 * tt.d(u, r), r) / r, r).value.isfinite(), torch.ones(7, 1).bool())


def test_a_residual_has_the_lowest_order_in_it() -> None:
    x, t = tt.variables(grid(5, 1), grid(5, 1), order=2)
    u = torch.sin(x) * torch.exp(-t)
    residual = tt.d(u, t) + u * tt.d(u, x) - 0.1 * tt.d(u, x, x)
    assert residual.order == 0
    s, c, e = grid(5, 1).sin(), grid(5, 1).cos(), (-grid(5, 1)).exp()
    same(residual, -s * e + s * e * c * e + 0.1 * s * e)
    assert (tt.d(u, t) + u).order == 1


def test_sums_of_different_derivatives_keep_what_both_know() -> None:
    x, t = tt.variables(grid(5), grid(5), order=3)
    u = x**3 * t**2
    both = tt.d(u, x) + tt.d(u, t)
    assert both.order == 2
    x0 = grid(5)
    same(tt.d(both, x, t), 12 * x0**2 * 1 * x0**0 * 0 + 6 * x0 * 2 * x0 + 3 * x0**2 * 2)


def test_a_hard_boundary_condition() -> None:
    net = mlp(1)
    x0 = grid(8, 1).requires_grad_()
    x = tt.variables(x0.detach(), order=2)
    u, reference = x * (1 - x) * net(x), x0 * (1 - x0) * net(x0)
    same(tt.d(u, x, x), partial(reference, x0, x0))


def test_particles() -> None:
    def energy(r: Any) -> Any:
        difference = r[:, :, None] - r[:, None]
        return (1 / (1 + (difference**2).sum(-1))).sum((1, 2))

    r0 = (grid(2, 4, 3) ** 2).requires_grad_()
    r = tt.variables(r0.detach(), order=2, event_dims=2)
    force = partial(energy(r0), r0)
    u = energy(r)
    for n in range(4):
        for i in range(3):
            same(tt.d(u, r[:, n, i]), force[:, n, i])
    same(tt.d(u, r[:, 1, 2], r[:, 3, 0]), partial(force[:, 1, 2], r0)[:, 3, 0])


def test_a_variable_that_u_does_not_depend_on() -> None:
    x, t = tt.variables(grid(4), grid(4), order=2)
    same(tt.d(x**2, t), torch.zeros(4, dtype=F64))
    same(tt.d(x**2, x, t), torch.zeros(4, dtype=F64))
    same(tt.d(torch.ones_like(x), x), torch.zeros(4, dtype=F64))


def test_a_reused_variable_after_a_written_result() -> None:
    x = tt.variables(grid(4), order=2)
    u = x**2
    u *= 3
    u[0] = 0.0
    expected = 6 * grid(4)
    expected[0] = 0
    same(tt.d(u, x), expected)


def test_nested_levels() -> None:
    x0 = grid(5)
    x = tt.variables(x0, order=2)
    y = tt.variables(x, order=2)
    u = torch.sin(y) * x
    inner = tt.d(u, y, y)
    same(tt.d(inner.value, x), -torch.sin(x0) - x0 * torch.cos(x0))
    # d of the lower variable reaches through the series of the higher one
    same(tt.d(u, x).value, torch.sin(x0) + x0 * torch.cos(x0))


def test_variables_inside_a_line() -> None:
    a = TaylorTensor(torch.tensor(2.0, dtype=F64), order=2)
    x = tt.variables(grid(4) + 0 * a, order=2)
    u = torch.sin(a * x)
    slope = tt.d(u, x).value
    expected = torch.cos(2 * grid(4)) - 2 * grid(4) * torch.sin(2 * grid(4))
    torch.testing.assert_close(slope.derivatives[1], expected)


# --- training on them -----------------------------------------------------------------------------


def test_an_order_zero_result_acts_as_its_value() -> None:
    w = torch.tensor(2.0, dtype=F64, requires_grad=True)
    x = tt.variables(grid(4), order=2)
    loss = tt.d(w * x**2, x, x).mean()
    assert loss.order == 0
    assert loss.item() == float(loss) == 4.0
    assert loss.tolist() == 4.0
    assert loss.detach().numpy() == 4.0
    assert tt.d(x**2, x, x).numpy().tolist() == [2.0] * 4
    loss.backward()
    assert w.grad == 2.0


@pytest.mark.parametrize("shape", ["columns", "points"])
def test_parameter_gradients_are_those_of_nested_autograd(shape: str) -> None:
    net = mlp(2)
    points = grid(16, 2, low=-1)

    def loss_of(u: Any, u_t: Any, u_x: Any, u_xx: Any) -> Any:
        return ((u_t + u * u_x - 0.1 * u_xx) ** 2).mean() + (u**2).mean()

    X0 = points.clone().requires_grad_()
    u = net(X0)
    g = partial(u, X0)
    loss_of(u, g[:, 1:], g[:, :1], partial(g[:, :1], X0)[:, :1]).backward()
    expected = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()

    if shape == "columns":
        x, t = tt.variables(points[:, :1], points[:, 1:], order=2)
        u = net(torch.cat([x, t], 1))
    else:
        X = tt.variables(points, order=2)
        x, t = X[:, :1], X[:, 1:]
        u = net(X)
    loss = loss_of(u, tt.d(u, t), tt.d(u, x), tt.d(u, x, x))
    assert loss.order == 0
    loss.backward()
    for p, e in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, e, rtol=1e-9, atol=1e-10)


def test_gradients_with_respect_to_the_points() -> None:
    x0 = grid(6).requires_grad_()
    x = tt.variables(x0, order=2)
    (gradient,) = torch.autograd.grad(tt.d(torch.sin(x), x, x).sum(), x0)
    same(gradient, -torch.cos(x0.detach()))


# --- errors ---------------------------------------------------------------------------------------


def two() -> tuple[TaylorTensor, TaylorTensor]:
    return tt.variables(grid(4), grid(4), order=2)


def test_more_derivatives_than_the_order_says_what_to_pass() -> None:
    x = tt.variables(grid(4), order=2)
    with pytest.raises(ValueError, match=r"asked for 4 derivatives.*order=4"):
        tt.d(x**5, x, order=4)
    with pytest.raises(ValueError, match=r"order=3"):
        tt.d(tt.d(x**5, x, x), x)
    y = tt.variables(grid(4), order=0)
    with pytest.raises(ValueError, match=r"order=1"):
        tt.d(y**2, y)


@pytest.mark.parametrize(
    ("wrt", "says"),
    [
        (lambda x: x * 1.0, "not a variable"),
        (lambda x: x.clone(), "not a variable"),
        (lambda x: x.value, "not a variable"),
        (lambda x: TaylorTensor(x.value), "not a variable"),
        (lambda x: torch.ones(4), "not a variable"),
        (lambda x: "x", "not a variable"),
        (lambda x: tt.variables(grid(4)), "one call of taylortorch.variables"),
    ],
)
def test_with_respect_to_something_else(wrt: Callable, says: str) -> None:
    x = tt.variables(grid(4))
    with pytest.raises(TypeError, match=says):
        tt.d(x**2, wrt(x))


@pytest.mark.parametrize(
    ("u", "says"),
    [
        (lambda x: grid(4), "does not depend on the variables, or was detached"),
        (lambda x: (x**2).detach(), "does not depend on the variables, or was detached"),
        (lambda x: (x**2).value, "detached"),
        (lambda x: 3.0, "float"),
        (lambda x: TaylorTensor(grid(4)), "one call of taylortorch.variables"),
    ],
)
def test_of_something_else(u: Callable, says: str) -> None:
    x = tt.variables(grid(4))
    with pytest.raises(TypeError, match=says):
        tt.d(u(x), x)


def test_several_coordinates_at_once() -> None:
    X = tt.variables(grid(5, 3))
    u = (X**2).sum(1)
    for wrt in (X, X[:, 1:], X[:, ::2]):
        with pytest.raises(ValueError, match=r"one coordinate at a time.*X\[:, 0:1\]"):
            tt.d(u, wrt)


def test_a_variable_that_was_written_to() -> None:
    x, t = two()
    x.mul_(2)
    with pytest.raises(TypeError, match="written to"):
        tt.d(x**2, x)
    X = tt.variables(grid(5, 3))
    column = X[:, 0]
    column.zero_()
    with pytest.raises(TypeError, match="written to"):
        tt.d((X**2).sum(1), column)
    assert tt.d(t**2, t).order == 1


def test_nothing_to_differentiate_by() -> None:
    x, t = two()
    with pytest.raises(ValueError, match="needs a variable"):
        tt.d(x)
    with pytest.raises(ValueError, match=r"write d\(u, x, x, t\)"):
        tt.d(x * t, x, t, order=2)
    for order, error in ((-1, ValueError), (1.0, TypeError), (True, TypeError), ("2", TypeError)):
        with pytest.raises(error, match="order must be"):
            tt.d(x, x, order=order)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: tt.variables(), TypeError, "at least one tensor"),
        (lambda: tt.variables([1.0]), TypeError, "got list"),
        (lambda: tt.variables(torch.arange(3)), TypeError, "torch.int64"),
        (lambda: tt.variables(grid(3), torch.ones(3).bool()), TypeError, "torch.bool"),
        (lambda: tt.variables(grid(3), order=-1), ValueError, "order must be >= 0, got -1"),
        (lambda: tt.variables(grid(3), order=1.5), TypeError, "order must be an int, got float"),
        (lambda: tt.variables(grid(2, 4, 3)), ValueError, "event_dims="),
        (lambda: tt.variables(grid(2, 3), event_dims=3), ValueError, "event_dims=3"),
        (lambda: tt.variables(grid(2, 3), event_dims=-1), ValueError, "event_dims=-1"),
        (lambda: tt.variables(grid(2), event_dims=(0, 0)), ValueError, "2 event_dims for 1"),
    ],
)
def test_bad_variables(make: Callable, error: type, says: str) -> None:
    with pytest.raises(error, match=says):
        make()


@pytest.mark.parametrize(
    "other",
    [
        lambda: tt.variables(grid(4)),
        lambda: TaylorTensor(grid(4)),
        lambda: TaylorTensor(grid(4), directions=grid(3, 4)),
    ],
    ids=["other variables", "a line", "a bundle"],
)
@pytest.mark.parametrize(
    "mix", [lambda a, b: a * b, lambda a, b: torch.cat([a, b]), lambda a, b: torch.stack([b, a])]
)
def test_another_expansion_at_the_same_level_is_not_mixed_in(
    other: Callable, mix: Callable
) -> None:
    with pytest.raises(tt.UnsupportedFunction, match=r"mixes two different expansions.*variables"):
        mix(tt.variables(grid(4)), other())
