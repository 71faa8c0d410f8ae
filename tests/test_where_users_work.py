"""Where users work: parameter gradients, function transforms, dtypes, contexts, real modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

import taylortorch as tt
from taylortorch import TaylorTensor
from tests.oracle import along, contracted

F64 = torch.float64


def grid(*shape: int, low: float = -0.9, high: float = 0.8) -> torch.Tensor:
    return torch.linspace(low, high, torch.Size(shape).numel(), dtype=F64).reshape(shape)


def mlp(inputs: int = 1, outputs: int = 1) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(inputs, 6), nn.Tanh(), nn.Linear(6, 6), nn.GELU(), nn.Linear(6, outputs)
    ).double()


def by_nested_autograd(net: Callable, x0: torch.Tensor, order: int) -> list[torch.Tensor]:
    x = x0.detach().requires_grad_()
    results = [net(x)]
    for _ in range(order):
        results.append(torch.autograd.grad(results[-1].sum(), x, create_graph=True)[0])
    return results


def all_equal(a: Any, b: Any, tolerance: float = 1e-9) -> None:
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, rtol=tolerance, atol=tolerance)


# --- gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_parameter_gradients_are_those_of_nested_autograd(order: int) -> None:
    net, x0 = mlp(), grid(7, 1)
    parameters = list(net.parameters())
    reference = by_nested_autograd(net, x0, order)
    expected = torch.autograd.grad(
        sum((r**2).sum() for r in reference), parameters, materialize_grads=True, allow_unused=True
    )
    y = net(TaylorTensor(x0, order=order)).derivatives
    all_equal(y, reference)
    got = torch.autograd.grad(
        sum((r**2).sum() for r in y), parameters, materialize_grads=True, allow_unused=True
    )
    all_equal(got, expected)


@pytest.mark.parametrize("check", [torch.autograd.gradcheck, torch.autograd.gradgradcheck])
def test_coefficients_are_twice_differentiable_in_parameters_point_and_direction(
    check: Callable,
) -> None:
    def coefficients(w: Any, b: Any, x0: Any, v: Any) -> Any:
        x = TaylorTensor(x0, direction=v, order=2)
        h = torch.tanh(nn.functional.linear(x, w, b))
        return (h.exp() / (1 + h**2)).sum(-1).coeffs

    inputs = [grid(2, 3), grid(2), grid(2, 3), grid(2, 3, low=0.5)]
    assert check(coefficients, [i.requires_grad_() for i in inputs])


def test_gradients_with_respect_to_the_point() -> None:
    net, x0 = mlp(), grid(5, 1).requires_grad_()
    y = net(TaylorTensor(x0, order=2))
    (got,) = torch.autograd.grad(y.derivatives[2].sum(), x0)
    all_equal([got], [by_nested_autograd(net, x0, 3)[3]])


def test_ordinary_backward_trains_a_parameter() -> None:
    beta = nn.Parameter(torch.tensor(0.7, dtype=F64))
    optimizer = torch.optim.Adam([beta], lr=0.05)
    x0 = grid(50)
    target = TaylorTensor(x0)
    target = torch.exp(-1.3 * target**2).derivatives
    for _ in range(300):
        optimizer.zero_grad()
        y = torch.exp(-beta * TaylorTensor(x0) ** 2).derivatives
        sum(((a - b) ** 2).mean() for a, b in zip(y, target, strict=True)).backward()
        optimizer.step()
    torch.testing.assert_close(beta.detach(), torch.tensor(1.3, dtype=F64), rtol=1e-3, atol=0)


# --- function transforms --------------------------------------------------------------------------


@pytest.mark.parametrize("count", [3, 4])
def test_inside_vmap(count: int) -> None:
    """R = N among them: directions are never taken for samples."""
    x0, V = grid(count, 4), grid(count, 4, low=0.1)

    def one(p: Any) -> Any:
        y = torch.sin(TaylorTensor(p, directions=V) ** 2)
        return y.coeffs

    got = torch.vmap(one, out_dims=(0, 1, 1))(x0)
    expected = torch.sin(TaylorTensor(x0, directions=V[:, None].expand(count, count, 4)) ** 2)
    all_equal(got, expected.coeffs)


def make_line(x0: torch.Tensor) -> TaylorTensor:
    return TaylorTensor(x0, direction=x0 + 1).exp()


def make_bundle(x0: torch.Tensor) -> TaylorTensor:
    return TaylorTensor(x0, directions=grid(3, *x0.shape)).exp()


def make_variables(x0: torch.Tensor) -> TaylorTensor:
    return tt.variables(x0, event_dims=1).exp()


@pytest.mark.parametrize("make", [make_line, make_bundle, make_variables])
@pytest.mark.parametrize("axis", [0, 1, -1, -2])
def test_vmap_maps_over_the_samples_of_a_series(make: Callable, axis: int) -> None:
    # three samples, three directions, three coordinates
    x, other = make(grid(3, 3)), grid(3)
    (inside,) = torch.vmap(lambda a: (torch.sin(a),), in_dims=axis, out_dims=axis)(x)
    all_equal(inside.coeffs, torch.sin(x).coeffs)
    scaled, (summed,) = torch.vmap(lambda a, b: [a * b, (a.cumsum(0),)], (0, None))(x, other)
    all_equal(scaled.coeffs, (x * other).coeffs)
    all_equal(summed.coeffs, x.cumsum(1).coeffs)


def test_vmap_with_a_series_that_is_not_mapped_over() -> None:
    x, y = make_bundle(grid(3, 3)), make_bundle(grid(3, 3)) * 2
    (got,) = torch.vmap(lambda a, b: (a @ b,), in_dims=(0, None))(x, y)
    all_equal(got.coeffs, (x @ y).coeffs)


def test_vmap_never_returns_part_of_a_bare_series() -> None:
    # torch takes a result that is a tensor for one leaf; in a tuple it passes whole
    with pytest.raises(ValueError, match="TaylorTensor"):
        torch.vmap(lambda p: TaylorTensor(p) ** 2)(grid(3, 3))
    (y,) = torch.vmap(lambda p: (TaylorTensor(p) ** 2,))(grid(3, 3))
    all_equal(y.coeffs, (TaylorTensor(grid(3, 3)) ** 2).coeffs)


def second(p: Any) -> Any:
    return (torch.sin(TaylorTensor(p)) * p).derivatives[2].sum()


@pytest.mark.parametrize(
    "transform",
    [
        torch.func.grad,
        torch.func.jacrev,
        torch.func.jacfwd,
        lambda f: lambda x: torch.func.vjp(f, x)[1](torch.ones((), dtype=F64))[0],
        lambda f: lambda x: torch.func.vmap(torch.func.grad(f))(x[:, None])[:, 0],
        lambda f: torch.compile(torch.func.grad(f), backend="eager"),
    ],
    ids=["grad", "jacrev", "jacfwd", "vjp", "vmap of grad", "compiled grad"],
)
def test_inside_transforms_of_torch_func(transform: Callable) -> None:
    # d/dp of -sin(p) p
    x0 = grid(4)
    expected = -torch.cos(x0) * x0 - torch.sin(x0)
    all_equal([transform(second)(x0)], [expected])


def test_functional_call_and_a_hessian_in_the_parameters() -> None:
    net, x0 = mlp(), grid(5, 1)
    parameters = {name: p.detach() for name, p in net.named_parameters()}

    def loss(p: dict) -> torch.Tensor:
        y = torch.func.functional_call(net, p, (TaylorTensor(x0),))
        return (y.derivatives[2] ** 2).mean()

    def reference(p: dict) -> torch.Tensor:
        f = lambda x: torch.func.functional_call(net, p, (x[None, None],))[0, 0]  # noqa: E731
        u_xx = torch.func.vmap(torch.func.grad(torch.func.grad(f)))(x0[:, 0])
        return (u_xx**2).mean()

    got, expected = torch.func.grad(loss)(parameters), torch.func.grad(reference)(parameters)
    all_equal(got.values(), expected.values())
    got = torch.func.jacrev(torch.func.grad(loss))(parameters)["0.weight"]["2.weight"]
    expected = torch.func.jacrev(torch.func.grad(reference))(parameters)["0.weight"]["2.weight"]
    all_equal([got], [expected])


# --- dtypes and contexts --------------------------------------------------------------------------


def test_float32() -> None:
    net, x0 = mlp(), grid(7, 1)
    y = net.float()(TaylorTensor(x0.float(), order=3))
    assert all(c.dtype == torch.float32 for c in y.coeffs)
    all_equal([c.double() for c in y.derivatives], by_nested_autograd(net.double(), x0, 3), 1e-5)


def test_complex128() -> None:
    z0 = torch.complex(grid(6), grid(6, low=0.3))
    y = torch.exp(TaylorTensor(z0, order=3) ** 2 * 1j)
    f = torch.exp(1j * z0**2)
    all_equal(y.derivatives[:3], [f, 2j * z0 * f, 2j * f - 4 * z0**2 * f])


def test_bf16_autocast() -> None:
    net, x0 = mlp().float(), grid(7, 1).float()
    exact = net(TaylorTensor(x0)).derivatives
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = net(TaylorTensor(x0))
        plain = net(x0)
    assert y.dtype == plain.dtype == torch.bfloat16
    torch.testing.assert_close(y.value, plain, rtol=1e-2, atol=1e-2)
    for got, expected in zip(y.derivatives, exact, strict=True):
        assert got.dtype == torch.bfloat16
        torch.testing.assert_close(got.float(), expected, rtol=0.1, atol=0.03)
    sum(c.float().sum() for c in y.coeffs).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net[0].parameters())


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_without_gradients(context: Callable) -> None:
    net, x0 = mlp(), grid(5, 1)
    expected = by_nested_autograd(net, x0, 2)
    with context():
        y = net(TaylorTensor(x0))
        y[0] = y[0] * 1
        assert not y.requires_grad
    all_equal(y.derivatives, [e.detach() for e in expected])


def test_no_grad_inside_a_model_keeps_the_series() -> None:
    x = TaylorTensor(grid(4))
    with torch.no_grad():
        y = torch.exp(x)
    all_equal((y * x).derivatives, (torch.exp(x) * x).derivatives)


# --- modules --------------------------------------------------------------------------------------


class Scaled(nn.Module):
    """A buffer, a cache, a branch on the value, writes in place."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(3.0, dtype=F64))
        self.net = mlp()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert isinstance(x, torch.Tensor)
        y = self.net(x * self.scale)
        y += 1
        self.last = y
        return y * 2 if y.mean() > -100 else y


def test_a_module_with_hooks_and_buffers() -> None:
    model, seen = Scaled(), []
    model.net[0].register_forward_hook(lambda m, args, out: seen.append(type(out).__name__))
    model.net[1].register_forward_hook(lambda m, args, out: out * 2)
    model.register_forward_pre_hook(lambda m, args: (args[0] + 1,))
    y = model(TaylorTensor(grid(5, 1)))
    assert seen == ["TaylorTensor"]
    all_equal(y.derivatives, by_nested_autograd(model, grid(5, 1), 2))


def test_nonreentrant_checkpoint() -> None:
    net, x0 = mlp(), grid(5, 1)
    parameters = list(net.parameters())

    def gradients(forward: Callable) -> Any:
        y = forward(TaylorTensor(x0))
        return torch.autograd.grad(sum((c**2).sum() for c in y.coeffs), parameters)

    once = gradients(lambda x: checkpoint(net, x, use_reentrant=False))
    all_equal(once, gradients(net))
    parts = gradients(
        lambda x: checkpoint(
            net[2:], checkpoint(net[:2], x, use_reentrant=False) * 1.0, use_reentrant=False
        )
    )
    all_equal(parts, gradients(net))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.norm = nn.GroupNorm(1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + nn.functional.silu(self.norm(self.conv(x)))


class Twice(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.module(x, torch.sin(x))


def encoder() -> nn.Module:
    return nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True, activation="gelu")


MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], bool]] = {
    # made by, input shape, in training mode
    "mlp": (lambda: mlp(3, 2), (4, 3), True),
    "hardtanh": (
        lambda: nn.Sequential(nn.Linear(3, 5), nn.Hardtanh(), nn.Linear(5, 1)),
        (4, 3),
        True,
    ),
    "conv1d": (
        lambda: nn.Sequential(nn.Conv1d(2, 3, 3, padding=1, stride=2), nn.ELU()),
        (2, 2, 6),
        True,
    ),
    "conv2d": (lambda: nn.Sequential(nn.Conv2d(1, 2, 3, groups=1), nn.SiLU()), (2, 1, 4, 5), True),
    "residual": (Residual, (2, 2, 3, 3), True),
    "layer norm": (lambda: nn.Sequential(nn.LayerNorm(4), nn.Softplus()), (3, 4), True),
    "batch norm, training": (lambda: nn.BatchNorm1d(3), (5, 3), True),
    "batch norm, eval": (lambda: nn.Sequential(nn.BatchNorm1d(3), nn.Tanh()), (5, 3), False),
    "softmax": (lambda: nn.Sequential(nn.Linear(3, 3), nn.Softmax(-1)), (4, 3), True),
    "bilinear of itself": (lambda: Twice(nn.Bilinear(3, 3, 2)), (4, 3), True),
    "attention, training": (Attention, (2, 3, 4), True),
    "attention, eval": (Attention, (2, 3, 4), False),
    "encoder, training": (encoder, (2, 3, 4), True),
    "encoder, eval": (encoder, (2, 3, 4), False),
    "dropout, eval": (lambda: nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)), (4, 3), False),
    "unflatten": (
        lambda: nn.Sequential(nn.Linear(3, 4), nn.Unflatten(1, (2, 2)), nn.Tanh()),
        (4, 3),
        True,
    ),
}


def normalised(x: torch.Tensor, axes: Any, eps: float) -> torch.Tensor:
    return (x - x.mean(axes, keepdim=True)) / (x.var(axes, correction=0, keepdim=True) + eps).sqrt()


FORMULAS: dict[type, Callable] = {
    # reverse mode over reverse mode is wrong at order 3 for torch's normalisations
    nn.LayerNorm: lambda m, x: normalised(x, -1, m.eps) * m.weight + m.bias,
    nn.BatchNorm1d: lambda m, x: (
        normalised(x, 0, m.eps) * m.weight + m.bias
        if m.training
        else (x - m.running_mean) / (m.running_var + m.eps).sqrt() * m.weight + m.bias
    ),
    nn.GroupNorm: lambda m, x: (
        normalised(x, (1, 2, 3), m.eps) * m.weight[:, None, None] + m.bias[:, None, None]
    ),
}


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_modules_against_reverse_mode(
    name: str, order: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, shape, training = MODULES[name]
    torch.manual_seed(1)
    model = make().double().train(training)
    path = [grid(*shape), *(torch.rand(shape, dtype=F64) for _ in range(order))]
    y = model(TaylorTensor.from_coeffs(path))
    weights = [torch.rand(y.shape, dtype=F64)]
    for module, formula in FORMULAS.items():
        monkeypatch.setattr(module, "forward", formula)
    with sdpa_kernel(SDPBackend.MATH):
        expected = along(lambda xs: [model(xs[0])], [path], order, weights)
    for k in range(order + 1):
        all_equal([contracted([y], weights, k)], [expected[k]], 1e-8)


def test_a_recurrent_cell_in_a_loop() -> None:
    torch.manual_seed(0)
    gates, head = nn.Linear(6, 8).double(), nn.Linear(4, 1).double()

    def f(x: Any) -> Any:
        state = torch.zeros(x.shape[0], 4, dtype=F64)
        for n in range(3):
            keep, new = gates(torch.cat([x[:, n], state], 1)).chunk(2, 1)
            state = torch.sigmoid(keep) * state + torch.tanh(new)
        return head(state)

    path = [grid(3, 3, 2), torch.rand(3, 3, 2, dtype=F64)]
    y = f(TaylorTensor(path[0], direction=path[1], order=3))
    expected = along(lambda xs: [f(xs[0])], [path], 3, [torch.ones(3, 1, dtype=F64)])
    for k in range(4):
        all_equal([y.derivatives[k].sum()], [expected[k]])
