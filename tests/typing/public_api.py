"""The public API as users call it, for ``mypy --strict``; ``tests/test_typing.py`` runs both."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from fractions import Fraction
from typing import Any, assert_type

import torch

import taylortorch as tt
from taylortorch import TaylorSolution, TaylorTensor, UnsupportedFunction, func, testing


class Layer(torch.nn.Module):
    """The layer of the Stack Overflow question."""

    def __init__(self) -> None:
        super().__init__()
        self.beta = torch.nn.Parameter(torch.tensor(0.7))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.exp(-self.beta * x**2)


def a_series() -> None:
    x = tt.TaylorTensor(torch.rand(5, 3), order=3)
    assert_type(x, TaylorTensor)
    assert_type(x.value, torch.Tensor)
    assert_type(x.order, int)
    assert_type(x.coeffs, tuple[torch.Tensor, ...])
    assert_type(x.derivatives, tuple[torch.Tensor, ...])
    assert_type(x.at(0.5), torch.Tensor)
    assert_type(TaylorTensor.from_coeffs([torch.ones(2), torch.ones(2)]), TaylorTensor)
    TaylorTensor(torch.rand(3), torch.ones(3))
    TaylorTensor(torch.rand(3), direction=torch.ones(3), order=1)
    TaylorTensor(torch.rand(3), directions=torch.eye(3), weights=1)
    TaylorTensor(torch.rand(3), directions=torch.eye(3), weights=torch.ones(3))

    # what torch returns is a Tensor to a type checker
    y = torch.exp(x) * x
    assert_type(y, torch.Tensor)
    assert isinstance(y, TaylorTensor)
    f, df, d2f, d3f = y.derivatives
    assert_type(df, torch.Tensor)
    loss = (f**2 + df**2 + d2f**2 + d3f**2).mean()
    assert_type(loss, torch.Tensor)


def training() -> None:
    layer = Layer()
    y = layer(tt.TaylorTensor(torch.linspace(-3, 3, 10)))
    f, df, d2f = y.derivatives
    (f**2 + df**2 + d2f**2).mean().backward()
    assert layer.beta.grad is not None


def variables() -> None:
    only = tt.variables(torch.rand(5, 2), order=2)
    assert_type(only, TaylorTensor)
    both = tt.variables(torch.rand(5, 1), torch.rand(5, 1), order=[2, 1])
    assert_type(both, tuple[TaylorTensor, ...])
    x, t = both
    u = torch.sin(x) * torch.exp(-t)
    assert_type(tt.d(u, t), TaylorTensor)
    assert_type(tt.d(u, x, order=2), TaylorTensor)
    residual = tt.d(u, t) + u * tt.d(u, x) - 0.1 * tt.d(u, x, x)
    assert_type(residual, torch.Tensor)
    assert_type((residual**2).mean(), torch.Tensor)
    assert_type(only.multi_indices, tuple[tuple[tuple[int, ...], ...], ...])

    # names and their number are known at run time only
    named = tt.variables(x=torch.rand(5, 1), t=torch.rand(5, 1), derivatives=["t", "xx"])
    assert_type(named, Any)
    tt.variables(x=torch.rand(5, 3), order={"x": 2}, event_dims={"x": 1})
    tt.variables(torch.rand(5, 1), torch.rand(5, 1), derivatives=[(0,), (1, 1)], event_dims=[1, 1])

    v = (only**3).sum(-1, keepdim=True)
    field = only**2
    assert_type(tt.grad(v, only), TaylorTensor)
    assert_type(tt.grad(v, only[:, 0:1]), TaylorTensor)
    assert_type(tt.jacobian(field, only), TaylorTensor)
    assert_type(tt.div(field, only), TaylorTensor)
    assert_type(tt.curl(field, only), TaylorTensor)
    assert_type(tt.laplacian(v, only), TaylorTensor)
    assert_type(tt.hessian(v, only), TaylorTensor)
    assert_type(tt.hvp(v, only, torch.ones(2)), TaylorTensor)
    assert_type(tt.normal_derivative(v, only, torch.ones(2)), TaylorTensor)


def square(x: torch.Tensor) -> torch.Tensor:
    return (x**4).sum(-1)


def pair(x: torch.Tensor, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    return scale * x**2, x**3


def transforms() -> None:
    x = torch.rand(5, 2)
    assert_type(func.derivatives(torch.exp, x, order=3), tuple[torch.Tensor, ...])
    assert_type(func.jvp(square, (x,), (x,)), tuple[torch.Tensor, ...])
    value, terms = func.jet(square, (x,), ((x, x),))
    assert_type(value, torch.Tensor)
    assert_type(terms, list[torch.Tensor])

    # a transformed function takes the arguments of the function
    transformed: Callable[[torch.Tensor], torch.Tensor] = func.laplacian(square)
    assert_type(transformed(x), torch.Tensor)
    func.jacfwd(pair)(x, scale=2.0)
    func.jacfwd(pair, argnums=0, event_dims=1, chunk_size=1, return_value=True)(x)
    func.hessian(square)(x)
    func.hessian_diagonal(square)(x)
    func.weighted_laplacian(square, torch.eye(2), drift=torch.ones(2))(x)
    func.weighted_laplacian(square, factor=lambda x: torch.eye(2))(x)
    func.biharmonic(square)(x)
    func.mixed_partial(square, (2, 1))(x)
    func.linear_operator(square, {(2, 0): 1, (0, 2): Fraction(1, 2), (0, 0): x[:, 0]})(x)
    func.stochastic.laplacian(square, 2, generator=torch.Generator())(x)
    func.stochastic.biharmonic(square, 2, directions="rademacher")(x)
    func.stochastic.linear_operator(square, {(2, 0): 1.0}, 1, replacement=True)(x)
    func.laplacian(Layer(), event_dims=0)(x)
    with contextlib.suppress(RuntimeError):  # there is no process group
        tt.distributed.laplacian(square)(x)
    laplacian: torch.Tensor = tt.func.laplacian(square)(x)
    assert laplacian.shape == (5,)


def differential_equations() -> None:
    def rotation(t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.stack([-y[1], y[0]])

    y0, t = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    assert_type(tt.odeint_taylor(rotation, y0, t), torch.Tensor)
    y, solution = tt.odeint_taylor(rotation, y0, t, rtol=1e-5, dense_output=True)
    assert_type(y, torch.Tensor)
    assert_type(solution, TaylorSolution)
    assert_type(solution.nodes, list[float])
    assert isinstance(solution(0.5), torch.Tensor)

    def fall(t: torch.Tensor, s: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"x": s["v"], "v": -torch.ones_like(s["x"])}

    state = {"x": torch.ones(1), "v": torch.zeros(1)}
    assert_type(tt.odeint_taylor(fall, state, t), dict[str, torch.Tensor])


def polynomials() -> None:
    t = tt.TaylorTensor(torch.tensor(0.0, dtype=torch.float64), order=8)
    assert_type(tt.compose(torch.exp(t), torch.sin(t)), TaylorTensor)
    assert_type(tt.invert(torch.sin(t)), TaylorTensor)
    assert_type(tt.invert(torch.sin(t), t.value), TaylorTensor)
    assert_type(tt.radius_of_convergence(torch.log1p(t)), torch.Tensor)


def own_rules() -> None:
    @tt.register_rule(derivative=lambda x: 3 * x**2)
    def cube(x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(x.detach().numpy() ** 3)

    # a decorated function keeps its type
    assert_type(cube(torch.ones(2)), torch.Tensor)
    report = testing.check_rule(cube, [(torch.tensor([0.5, 2.0]),)])
    assert_type(report, testing.Report)
    assert_type(report.error, float)
    sample: testing.Sample = testing.call(testing.t(2, low=0.5))
    testing.check_rule(cube, [sample], order=2)

    def double(x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    doubled = tt.register_rule(double, form="x : x")
    assert_type(doubled(torch.ones(2)), torch.Tensor)

    class Step(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return torch.sign(x)

    tt.register_rule(Step, composite=torch.ones_like)


def errors() -> None:
    with contextlib.suppress(UnsupportedFunction):
        tt.TaylorTensor(torch.ones(())).item()
    failure: NotImplementedError = UnsupportedFunction("a reason")
    assert str(failure) == "a reason"
    names: dict[str, list[str]] = tt.supported()
    assert "tanh" in names["ode"]
    version: str = tt.__version__
    assert version


EXAMPLES: list[Callable[[], None]] = [
    a_series,
    training,
    variables,
    transforms,
    differential_equations,
    polynomials,
    own_rules,
    errors,
]
