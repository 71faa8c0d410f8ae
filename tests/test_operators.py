"""The operators on variables: every layout, nesting, what is seeded, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

import taylortorch as tt
from taylortorch import TaylorTensor
from tests.fields import (
    F64,
    mlp,
    partial,
    per_output,
    points,
    reverse_laplacian,
    same,
    same_gradients,
)


def column(x: torch.Tensor, i: int) -> torch.Tensor:
    return x[:, i : i + 1]


# --- every operator on points (N, D) --------------------------------------------------------------


def test_operators_on_points() -> None:
    net, x0 = mlp(3, 3), points(5, 3)
    x = tt.variables(x0, order=2)
    u = net(x)
    v = net(x0)
    jacobian = torch.stack(
        [per_output(lambda c, i=i: partial(c, x0, [i]), v) for i in range(3)], -1
    )
    hessian = torch.stack(
        [
            torch.stack(
                [per_output(lambda c, i=i, j=j: partial(c, x0, [i, j]), v) for j in range(3)], -1
            )
            for i in range(3)
        ],
        -2,
    )
    for result in (tt.grad(u, x), tt.jacobian(u, x)):
        same(result, jacobian)
        assert result.order == 1
    same(tt.hessian(u, x), hessian)
    same(tt.laplacian(u, x), hessian.diagonal(dim1=-2, dim2=-1).sum(-1))
    same(tt.div(u, x), jacobian.diagonal(dim1=-2, dim2=-1).sum(-1))
    curl = torch.stack(
        [jacobian[:, j, i] - jacobian[:, i, j] for i, j in ((1, 2), (2, 0), (0, 1))], -1
    )
    same(tt.curl(u, x), curl)
    w = points(5, 3, seed=2).detach()
    same(tt.hvp(u, x, w), torch.einsum("noij,nj->noi", hessian, w))
    same(tt.hvp(u, x, w[0]), torch.einsum("noij,j->noi", hessian, w[0]))
    same(tt.normal_derivative(u, x, w), torch.einsum("noi,ni->no", jacobian, w))
    same(tt.normal_derivative(u[:, 0], x, w), torch.einsum("ni,ni->n", jacobian[:, 0], w))
    same(tt.d(u, x[:, 1:2], x[:, 2]), hessian[:, :, 1, 2])
    # slices, of the variable and of the result
    same(tt.grad(u, x[:, 1:]), jacobian[..., 1:])
    same(tt.grad(u, x[:, ::2]), jacobian[..., ::2])
    same(tt.laplacian(u[:, :1], x[:, :2]), (hessian[:, :1, 0, 0] + hessian[:, :1, 1, 1]))
    same(tt.hessian(u, x[:, 1:]), hessian[..., 1:, 1:])
    same(tt.div(u[:, :2], x[:, :2]), jacobian[:, 0, 0] + jacobian[:, 1, 1])
    same(tt.curl(u[:, :2], x[:, :2]), jacobian[:, 1, 0] - jacobian[:, 0, 1])


def test_several_variables_are_counted_through() -> None:
    x0, y0 = points(4, 1), points(4, 1, seed=1)
    x, y = tt.variables(x0, y0, order=2)
    u = torch.sin(x) * y**2
    same(tt.grad(u, x, y), torch.stack([x0.cos() * y0**2, 2 * x0.sin() * y0], -1))
    same(tt.laplacian(u, x, y), -x0.sin() * y0**2 + 2 * x0.sin())
    same(tt.hessian(u, x, y)[..., 0, 1], 2 * x0.cos() * y0)
    field = torch.cat([u, x * y], 1)
    same(tt.div(field, x, y), (x0.cos() * y0**2 + x0)[:, 0])
    same(tt.curl(field, x, y), (y0 - 2 * x0.sin() * y0)[:, 0])


LAYOUTS: dict[str, tuple[tuple[int, ...], int | None]] = {
    "column": ((5, 1), None),
    "samples": ((5,), None),
    "points": ((5, 3), None),
    "one point": ((3,), 1),
    "particles": ((2, 3, 3), 2),
    "operator learning": ((2, 3, 2), 1),
    "scalar": ((), None),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout: str) -> None:
    shape, event_dims = LAYOUTS[layout]
    x0 = points(*shape)
    x = tt.variables(x0, order=3, event_dims=event_dims)
    dims = x0.ndim - len(x._variable.event)
    event = shape[dims:]

    def field(x: Any) -> Any:
        flat = x.reshape((*shape[:dims], -1))
        scale = torch.arange(1.0, flat.shape[-1] + 1, dtype=F64)
        return torch.exp(0.3 * (torch.sin(flat) * scale).sum(-1))

    u, v = field(x), field(x0)
    count = math.prod(event)
    slopes = torch.stack([partial(v, x0, [i]) for i in range(count)], -1)
    second = torch.stack(
        [torch.stack([partial(v, x0, [i, j]) for j in range(count)], -1) for i in range(count)], -2
    )
    same(tt.grad(u, x), slopes.reshape((*v.shape, *event)))
    same(tt.hessian(u, x), second.reshape((*v.shape, *event, *event)))
    lap = tt.laplacian(u, x)
    same(lap, second.diagonal(dim1=-2, dim2=-1).sum(-1))
    assert lap.order == 1
    same(
        tt.grad(lap, x).reshape((*v.shape, -1))[..., 0], partial(reverse_laplacian(v, x0), x0, [0])
    )
    if event:
        same(tt.div(tt.grad(u, x), x), reverse_laplacian(v, x0))
        w = points(*shape, seed=3).detach()
        flat = w.reshape((*shape[:dims], count))
        expected = torch.einsum("...ij,...j->...i", second, flat)
        same(tt.hvp(u, x, w), expected.reshape((*v.shape, *event)))
        same(tt.normal_derivative(u, x, w), (slopes * flat).sum(-1))
    same_gradients(lap.value, reverse_laplacian(v, x0), [x0], twice=False)


def test_a_scalar_time_beside_images() -> None:
    image, t0 = points(2, 1, 4, 4).detach(), points(2)
    conv = torch.nn.Conv2d(1, 3, 3, padding=1).double()
    t = tt.variables(t0, order=2)

    def model(t: Any) -> Any:
        return torch.tanh(conv(image) * t[:, None, None, None]).sum((1, 2, 3))

    u = model(t)
    (slope,) = torch.autograd.grad(model(t0).sum(), t0)
    same(tt.d(u, t), slope)
    field = torch.tanh(conv(image) * t[:, None, None, None])
    assert tt.d(field, t, t).shape == field.shape


# --- nesting ------------------------------------------------------------------------------------


def test_operators_nest() -> None:
    r0 = points(6, 1, seed=4).abs() + 1
    r0 = r0.detach().requires_grad_()
    r = tt.variables(r0, order=3)
    u = torch.exp(-r)
    same(tt.d(r**2 * tt.d(u, r), r), (r0**2 - 2 * r0) * torch.exp(-r0))
    x0, net = points(4, 2), mlp(2)
    x = tt.variables(x0, order=4)
    u, v = net(x), net(x0)
    conductivity = lambda u: 1 + u**2  # noqa: E731
    flux = tt.div(conductivity(u[:, 0]).unsqueeze(-1) * tt.grad(u[:, 0], x), x)
    g = torch.stack([partial(v[:, 0], x0, [i]) for i in range(2)], -1)
    expected = 2 * v[:, 0] * g.square().sum(-1) + (1 + v[:, 0] ** 2) * reverse_laplacian(
        v[:, 0], x0
    )
    same(flux, expected)
    # the shapes of a column output and of its gradient, as one would write it
    again = tt.div(conductivity(u).unsqueeze(-1) * tt.grad(u, x), x)
    same(again[:, 0], expected)
    bilaplacian = tt.laplacian(tt.laplacian(u[:, 0], x), x)
    same(bilaplacian, reverse_laplacian(reverse_laplacian(v[:, 0], x0), x0))
    hessians = tt.hessian(tt.hessian(u[:, 0], x), x)
    assert hessians.shape == (4, 2, 2, 2, 2)
    same(hessians[:, 0, 1, 0, 1], partial(v[:, 0], x0, [0, 1, 0, 1]))
    assert hessians.order == 0


def test_hard_boundary_conditions() -> None:
    x0, net = points(5, 1).sigmoid().detach().requires_grad_(), mlp(1)
    x = tt.variables(x0, order=2)
    u, v = x * (1 - x) * net(x), x0 * (1 - x0) * net(x0)
    same(tt.d(u, x, x)[:, 0], partial(v[:, 0], x0, [0, 0]))
    same_gradients(
        tt.d(u, x, x).value[:, 0], partial(v[:, 0], x0, [0, 0]), [*net.parameters()][:-1]
    )


def test_a_residual_trains() -> None:
    net = mlp(2)
    x, t = tt.variables(points(8, 1).detach(), points(8, 1, seed=1).detach(), order=2)
    u = net(torch.cat([x, t], 1))
    residual = tt.d(u, t) + u * tt.d(u, x) - 0.01 * tt.d(u, x, x)
    assert residual.order == 0
    (residual**2).mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())


def test_a_variable_that_the_result_does_not_depend_on() -> None:
    x, t = tt.variables(points(4, 1).detach(), points(4, 1).detach(), order=2)
    u = torch.sin(x)
    for result in (tt.d(u, t), tt.d(u, x, t), tt.laplacian(u, t), tt.grad(u, t)[..., 0]):
        same(result, torch.zeros(4, 1, dtype=F64))
    constant = torch.zeros_like(u)
    same(tt.laplacian(constant, x), torch.zeros(4, 1, dtype=F64))


def test_complex_results() -> None:
    x0 = points(4, 2).detach()
    x = tt.variables(x0, order=2)
    k = torch.tensor([1.0, 2.0], dtype=F64)
    psi = torch.exp(1j * (x @ k))
    same(tt.laplacian(psi, x), -5 * torch.exp(1j * (x0 @ k)))
    current = (torch.conj(psi).unsqueeze(-1) * tt.grad(psi, x)).imag
    same(current, k.expand(4, 2))


# --- seeding only what is asked for ---------------------------------------------------------------


def rows(x: TaylorTensor) -> list[int]:
    return [len(degree) for degree in x.multi_indices]


def test_only_the_derivatives_asked_for() -> None:
    x0, t0 = points(4, 1), points(4, 1, seed=1)
    net = mlp(2)
    x, t = tt.variables(x=x0, t=t0, derivatives=["t", "xx", "xt"])
    assert rows(x) == [1, 2, 2]
    u, v = net(torch.cat([x, t], 1)), net(torch.cat([x0, t0], 1))
    grad = lambda u, *wrt: [  # noqa: E731
        u := torch.autograd.grad(u.sum(), w, create_graph=True)[0] for w in wrt
    ][-1]
    same(tt.d(u, t), grad(v, t0))
    same(tt.d(u, x, x), grad(v, x0, x0))
    same(tt.d(u, x, t), grad(v, x0, t0))
    with pytest.raises(ValueError, match=r"derivatives= of taylortorch.variables"):
        tt.d(u, t, t)
    by_position = tt.variables(x0, t0, derivatives=[(1,), (0, 0), (0, 1)])[0]
    assert by_position.multi_indices == x.multi_indices
    assert rows(tt.variables(x=x0, t=t0, derivatives="x x t")[0]) == [1, 2, 2, 1]
    assert rows(tt.variables(theta=x0, r=t0, derivatives="theta, theta, r")[0]) == [1, 2, 2, 1]
    assert rows(tt.variables(x0, t0, order=(2, 1))[0]) == [1, 2, 2]
    assert rows(tt.variables(x=x0, t=t0, order={"x": 3, "t": 1})[0]) == [1, 2, 2, 2]


@pytest.mark.parametrize("d", [2, 50, 1000])
def test_a_laplacian_on_the_tape_keeps_one_row(d: int) -> None:
    x0, t0 = points(2, d), points(2, 1)
    x, t = tt.variables(x=x0, t=t0, derivatives=["t", "laplacian(x)"])
    assert rows(x) == [1, d + 1, 1]
    w = torch.linspace(-1, 1, d, dtype=F64)

    def field(x: Any, t: Any) -> Any:
        return torch.tanh(x @ w) * torch.exp(t[:, 0])

    u, v = field(x, t), field(x0, t0)
    z = torch.tanh(x0 @ w)
    exact = -2 * z * (1 - z**2) * (w @ w) * t0[:, 0].exp()
    same(tt.laplacian(u, x), exact)
    same(tt.d(u, t), v)
    same_gradients(tt.laplacian(u, x).value, exact, [x0, t0], twice=False)
    with pytest.raises(ValueError, match="derivatives="):
        tt.laplacian(u, x[:, : d - 1])
    if d == 2:
        every = tt.variables(x=x0, t=t0, derivatives="laplacian")[0]
        assert rows(every) == [1, 3, 1]
        more = tt.variables(x=x0, t=t0, derivatives=["laplacian(x)", "xx"])[0]
        assert rows(more) == [1, 2, 3]
        same(tt.laplacian(torch.tanh(more @ w), more), exact / t0[:, 0].exp())


def test_levels() -> None:
    a0, x0 = points(3), points(3, 2)
    a = tt.variables(a0, order=1)
    x = tt.variables(x0 * a.unsqueeze(-1), order=2, event_dims=1)
    u = (x**3).sum(-1) * a
    lap = tt.laplacian(u, x)
    exact = 6 * x0.sum(-1) * a0**2
    same(lap.value.value if isinstance(lap.value, TaylorTensor) else lap.value, exact)
    inner = lap.value
    same(tt.d(inner, a), 12 * x0.sum(-1) * a0)


# --- bad input ------------------------------------------------------------------------------------


def bad() -> dict[str, tuple[Callable[[], Any], type, str]]:
    x0 = torch.rand(4, 3)
    x = tt.variables(x0, order=2)
    u = torch.sin(x).sum(-1)
    other = tt.variables(x0, order=2)
    written = tt.variables(x0, order=2)
    written.mul_(2)
    line = TaylorTensor(x0)
    return {
        "no variable": (lambda: tt.grad(u), ValueError, "needs a variable"),
        "not a variable": (lambda: tt.grad(u, 2 * x), TypeError, "not a variable"),
        "a plain u": (lambda: tt.laplacian(x0, x), TypeError, "u is a Tensor without a series"),
        "detached": (lambda: tt.hessian(u.detach(), x), TypeError, "detached"),
        "another call": (lambda: tt.grad(u, other), TypeError, "one call"),
        "two calls": (lambda: tt.grad(u, x, other), TypeError, "one call"),
        "a line": (lambda: tt.grad(line, x), TypeError, "different expansions"),
        "written to": (lambda: tt.grad(torch.sin(written), written), TypeError, "written to"),
        "reduced": (lambda: tt.grad(u.mean(), x), ValueError, "not per sample"),
        "batch slice": (lambda: tt.grad(u, x[0]), ValueError, "batch axes"),
        "half the batch": (lambda: tt.grad(u[:2], x), ValueError, "not per sample"),
        "order": (lambda: tt.laplacian(tt.d(u, x[:, :1]), x), ValueError, "pass order=3"),
        "components": (lambda: tt.div(u, x), ValueError, "one component per coordinate"),
        "curl in 1": (lambda: tt.curl(x[:, :1], x[:, :1]), ValueError, "2 and 3 dimensions"),
        "hvp shape": (lambda: tt.hvp(u, x, torch.ones(2)), ValueError, r"shape \(4, 3\) or \(3,\)"),
        "normal": (lambda: tt.normal_derivative(u, x, [1.0]), ValueError, "got list"),
        "both": (lambda: tt.variables(x0, order=2, derivatives=[(0,)]), ValueError, "not both"),
        "no names": (lambda: tt.variables(x0, derivatives=["xx"]), ValueError, "name them as"),
        "name": (lambda: tt.variables(x=x0, derivatives=["xy"]), ValueError, "the names are x"),
        "position": (lambda: tt.variables(x0, derivatives=[(1,)]), ValueError, "positions"),
        "orders": (lambda: tt.variables(x0, order=(1, 2)), ValueError, "2 order for 1 values"),
        "order name": (lambda: tt.variables(x=x0, order={"y": 1}), ValueError, "unknown variables"),
        "event_dims": (lambda: tt.variables(x0, event_dims=3), ValueError, "event_dims=3"),
        "integers": (lambda: tt.variables(x0.long()), TypeError, "floating-point"),
    }


@pytest.mark.parametrize("name", bad())
def test_bad_input(name: str) -> None:
    use, error, message = bad()[name]
    with pytest.raises(error, match=message):
        use()


def test_edges() -> None:
    empty = tt.variables(torch.zeros(0, 3), order=2)
    assert tt.hessian(torch.sin(empty), empty).shape == (0, 3, 3, 3)
    assert tt.laplacian(torch.sin(empty).sum(-1), empty).shape == (0,)
    none = tt.variables(torch.zeros(2, 0), order=2)
    u = none.sum(-1)
    assert tt.laplacian(u, none).value.tolist() == [0.0, 0.0]
    assert tt.grad(u, none).shape == (2, 0)
