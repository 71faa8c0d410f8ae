"""Solutions of differential equations: closed forms, invariants, and what can go wrong."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import taylortorch as tt
from taylortorch.algebra.streams import Stream, Tape

exactly = {"rtol": 1e-15, "atol": 1e-16}


def t64(*numbers: Any) -> torch.Tensor:
    return torch.tensor(numbers[0] if len(numbers) == 1 else numbers, dtype=torch.float64)


def assert_within(actual: torch.Tensor, expected: Any, tolerance: float) -> None:
    expected = torch.as_tensor(expected, dtype=actual.dtype)
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


class Calls:
    """A right-hand side that counts how often it is called."""

    def __init__(self, f: Callable) -> None:
        self.f, self.count = f, 0

    def __call__(self, t: Any, y: Any) -> Any:
        self.count += 1
        return self.f(t, y)


def oscillator(t: Any, y: Any) -> Any:
    return torch.stack([y[..., 1], -y[..., 0]], -1)


def kepler(t: Any, y: Any) -> Any:
    q, v = y[..., :2], y[..., 2:]
    r2 = (q * q).sum(-1, keepdim=True)
    return torch.cat([v, -q / (r2 * torch.sqrt(r2))], -1)


def lorenz(t: Any, s: Any) -> Any:
    x, y, z = s.unbind(-1)
    return torch.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 * z / 3], -1)


def needs_the_whole(f: Callable) -> Callable:
    """The same function, with a look at coefficients that are not known yet."""
    return lambda t, y: (getattr(y, "coeffs", None), f(t, y))[1]


# --- solutions ------------------------------------------------------------------------------------

CLOSED: dict[str, tuple[Callable, Any, Any, Callable]] = {
    "exp": (lambda t, y: y, 1.0, (0, 0.5, 3), torch.exp),
    "exp, backwards": (lambda t, y: y, 1.0, (0, -1, -3), torch.exp),
    "tan": (lambda t, y: 1 + y * y, 0.0, (0, 1, 1.5), torch.tan),
    "logistic": (lambda t, y: y * (1 - y), 0.1, (0, 5, 10), lambda t: 1 / (1 + 9 * (-t).exp())),
    "non-autonomous": (lambda t, y: -2 * t * y, 1.0, (0, 1, 3), lambda t: (-t * t).exp()),
    "t alone": (lambda t, y: torch.cos(t), 0.0, (0, 1, 30), torch.sin),
    "from t = -2": (lambda t, y: t * y, math.exp(2), (-2, 0, 1), lambda t: (t * t / 2).exp()),
    "constant": (lambda t, y: torch.zeros_like(y), 2.0, (0, 1, 1e9), lambda t: 0 * t + 2),
    "cubic": (lambda t, y: t**3, 0.0, (0, 10, 100), lambda t: t**4 / 4),
    "coefficients of t^3k": (
        lambda t, y: 3 * t**2 * torch.exp(t**3),
        1.0,
        (0, 0.5, 1.2),
        lambda t: (t**3).exp(),
    ),
}


@pytest.mark.parametrize(("f", "y0", "t", "exact"), CLOSED.values(), ids=CLOSED)
def test_closed_forms(f: Callable, y0: float, t: tuple, exact: Callable) -> None:
    y = tt.odeint_taylor(f, t64(y0), t64(t), **exactly)
    assert_within(y, exact(t64(t)), 4e-14)


def test_matrix_exponential() -> None:
    a = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t = t64(0, 0.5, 2)
    y = tt.odeint_taylor(lambda t, y: a @ y, torch.eye(4, dtype=torch.float64), t, **exactly)
    for n in range(3):
        assert_within(y[n], torch.matrix_exp(a * t[n]), 1e-13)


def test_kepler_orbit_closes_and_keeps_its_energy() -> None:
    e, periods = 0.5, 4
    y0 = t64(1 - e, 0, 0, math.sqrt((1 + e) / (1 - e)))
    t = torch.linspace(0, periods, 8 * periods + 1, dtype=torch.float64) * 2 * math.pi
    y = tt.odeint_taylor(kepler, y0, t, rtol=1e-14, atol=1e-14)
    energy = (y[:, 2:] ** 2).sum(-1) / 2 - 1 / (y[:, :2] ** 2).sum(-1).sqrt()
    momentum = y[:, 0] * y[:, 3] - y[:, 1] * y[:, 2]
    assert_within(energy, torch.full_like(energy, -0.5), 3e-14)
    assert_within(momentum, momentum[:1].expand_as(momentum), 3e-14)
    assert_within(y[-1], y0, 1e-12)


# mpmath.odefun with 25 digits
REFERENCE: dict[str, tuple[Callable, list, float, list]] = {
    "Lorenz": (
        lorenz,
        [1, 1, 1],
        2,
        [-8.17349993224224961295141006, -9.562023686798799462359744914, 24.62070204967966565744925],
    ),
    "van der Pol": (
        lambda t, y: torch.stack([y[1], (1 - y[0] ** 2) * y[1] - y[0]]),
        [2, 0],
        3,
        [-1.866073911061084785959113931, -1.021060340195857017284014235],
    ),
}


@pytest.mark.parametrize(("f", "y0", "end", "expected"), REFERENCE.values(), ids=REFERENCE)
def test_against_high_precision(f: Callable, y0: list, end: float, expected: list) -> None:
    start = torch.tensor(y0, dtype=torch.float64)
    y = tt.odeint_taylor(f, start, t64(0, end), **exactly)
    assert_within(y[-1], expected, 2e-14)
    y = tt.odeint_taylor(f, start, t64(0, end), rtol=1e-8, atol=1e-8)
    assert_within(y[-1], expected, 1e-6)
    assert not torch.equal(y[-1], t64(expected))


@pytest.mark.parametrize("order", [1, 2, 3, 5, 8, 13, 30, 50])
def test_every_order_meets_the_tolerance(order: int) -> None:
    tolerance = 1e-3 if order < 3 else 1e-5 if order < 5 else 1e-9
    y = tt.odeint_taylor(
        oscillator, t64(1, 0), t64(0, 1), order=order, rtol=tolerance, atol=tolerance
    )
    assert_within(y[-1], [math.cos(1), -math.sin(1)], 20 * tolerance)


def test_tighter_tolerances_take_higher_orders_not_more_steps() -> None:
    steps, errors = [], []
    for rtol in (1e-4, 1e-8, 1e-12):
        y, solution = tt.odeint_taylor(
            oscillator, t64(1, 0), t64(0, 10), rtol=rtol, atol=rtol, dense_output=True
        )
        steps.append(len(solution.pieces))
        errors.append(float((y[-1] - t64(math.cos(10), -math.sin(10))).abs().max()))
        assert solution.pieces[0].order == math.ceil(1 - math.log(rtol) / 2)
    assert max(steps) <= 2 * min(steps)
    assert errors[0] > 1e2 * errors[1] > 1e4 * errors[2]


# --- states ---------------------------------------------------------------------------------------


def test_a_batch_is_its_samples() -> None:
    y0 = torch.rand(2, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t = t64(0, 0.7, 2)
    y = tt.odeint_taylor(oscillator, y0, t, **exactly)
    assert y.shape == (3, 2, 3, 2)
    one = tt.odeint_taylor(oscillator, y0[1, 2], t, **exactly)
    assert_within(y[:, 1, 2], one, 1e-14)


def test_the_slowest_sample_sets_the_step_of_all() -> None:
    def steps(rates: torch.Tensor) -> int:
        _, solution = tt.odeint_taylor(
            lambda t, y: rates * y, torch.ones_like(rates), t64(0, 1), dense_output=True
        )
        return len(solution.pieces)

    assert steps(t64([[-50.0], [-1.0]])) == steps(t64([[-50.0]])) > 3 * steps(t64([[-1.0]]))


def test_tuples_dicts_and_nested_states() -> None:
    def f(t: Any, s: Any) -> Any:
        (q, p), extra = s["phase"], s["extra"]
        return {"phase": (p, -q), "extra": [0.0 * extra[0] + t]}

    y0 = {"phase": (t64([1.0]), t64([0.0])), "extra": [t64(0.0)]}
    y = tt.odeint_taylor(f, y0, t64(0, 1, 2), **exactly)
    assert_within(y["phase"][0][:, 0], torch.cos(t64(0, 1, 2)), 1e-14)
    assert_within(y["phase"][1][:, 0], -torch.sin(t64(0, 1, 2)), 1e-14)
    assert_within(y["extra"][0], [0, 0.5, 2], 1e-14)


def test_complex_states() -> None:
    y0 = torch.tensor([1.0 + 0j], dtype=torch.complex128)
    y = tt.odeint_taylor(lambda t, y: 1j * torch.cos(t) * y, y0, t64(0, 1, 4), **exactly)
    torch.testing.assert_close(y[:, 0], torch.exp(1j * torch.sin(t64(0, 1, 4))))


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float16, 4e-3), (torch.bfloat16, 3e-2)]
)
@pytest.mark.parametrize("shape", [(), (3,)])
def test_the_state_keeps_its_dtype(dtype: torch.dtype, tolerance: float, shape: tuple) -> None:
    y = tt.odeint_taylor(lambda t, y: -t * y, torch.ones(shape, dtype=dtype), t64(0, 1))
    assert y.dtype == dtype
    assert_within(y[-1].double(), torch.full(shape, math.exp(-0.5)), tolerance)


def test_a_right_hand_side_that_writes() -> None:
    def f(t: Any, y: Any) -> Any:
        slope = torch.zeros_like(y)
        slope[..., 0] = y[..., 1]
        slope[..., 1] = -y[..., 0]
        y.mul_(0)
        return slope

    y0 = t64([[1.0, 0.0]])
    for grad in (torch.enable_grad, torch.no_grad):
        for g in (f, needs_the_whole(f)):
            with grad():
                y = tt.odeint_taylor(g, y0, t64(0, 1), **exactly)
            assert_within(y[-1, 0], [math.cos(1), -math.sin(1)], 1e-14)
    assert y0.tolist() == [[1, 0]]


# --- how often the right-hand side is called ------------------------------------------------------

PROGRAMS: dict[str, tuple[Callable, int]] = {
    "Lorenz": (lorenz, 3),
    "Kepler": (kepler, 4),
    "Kepler by norm": (
        lambda t, y: torch.cat(
            [y[..., 2:], -y[..., :2] / torch.linalg.norm(y[..., :2], dim=-1, keepdim=True) ** 3], -1
        ),
        4,
    ),
    "pendulum": (lambda t, y: torch.stack([y[..., 1], -torch.sin(y[..., 0])], -1), 2),
    "network": (torch.nn.Sequential, 3),
    "everything": (
        lambda t, y: (
            torch.softmax(torch.atan(y) * torch.exp(-t) + torch.log1p(y * y), -1)
            + torch.where(y > 0, torch.relu(y), y.mean(-1, keepdim=True)) / (1 + y**2)
            + torch.cumsum(y, -1).flip(-1) ** 1.5
            - torch.sqrt(1 + y * y) * y**y
        ),
        3,
    ),
}


def network() -> Callable:
    torch.manual_seed(0)
    layers = [torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 8), torch.nn.GELU()]
    net = torch.nn.Sequential(*layers, torch.nn.LayerNorm(8), torch.nn.Linear(8, 3)).double()
    return lambda t, y: net(torch.cat([y, t.expand(y.shape[:-1]).unsqueeze(-1)], -1))


@pytest.mark.parametrize("name", PROGRAMS)
def test_one_call_a_step(name: str) -> None:
    program, size = PROGRAMS[name]
    f = Calls(network() if name == "network" else program)
    y0 = 0.5 + torch.rand(2, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    once, solution = tt.odeint_taylor(f, y0, t64(0, 0.3), rtol=1e-10, dense_output=True)
    assert f.count == len(solution.pieces) + 1
    anew = Calls(needs_the_whole(f.f))
    again = tt.odeint_taylor(anew, y0, t64(0, 0.3), rtol=1e-10)
    assert anew.count > 10 * len(solution.pieces)
    assert_within(once, again, 1e-13)


def test_a_rule_that_needs_the_whole_series() -> None:
    # s' = 1 makes s the time, which Bessel's function then reads from the state
    def f(t: Any, y: Any) -> Any:
        s = y[..., 0]
        return torch.stack([torch.ones_like(s), torch.special.bessel_j0(s)], -1)

    y = tt.odeint_taylor(f, t64(0, 0), t64(0, 1), rtol=1e-10, atol=1e-10)
    # mpmath.quad(mpmath.besselj0, [0, 1])
    assert_within(y[-1], [1, 0.9197304100897602], 1e-9)


def test_nothing_is_left_behind() -> None:
    gc.collect()
    gc.disable()
    try:
        w = t64(1.0).requires_grad_()
        y = tt.odeint_taylor(lambda t, y: torch.tanh(w * y) * t, t64(1.0, 2.0), t64(0, 5))
        y[-1].sum().backward()
        with pytest.raises(RuntimeError):
            tt.odeint_taylor(lambda t, y: torch.log(y - t), t64(1.0), t64(0, 5))
        # by type: isinstance asks each object for its class, and some of torch's warn
        assert not any(issubclass(type(x), (Stream, Tape)) for x in gc.get_objects())
    finally:
        gc.enable()


# --- derivatives ----------------------------------------------------------------------------------


def test_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    w = torch.rand(2, 2, dtype=torch.float64, generator=generator).requires_grad_()
    y0 = torch.rand(2, 2, dtype=torch.float64, generator=generator).requires_grad_()
    t = t64(0.1, 0.4, 1).requires_grad_()

    def states(w: Any, y0: Any, t: Any) -> Any:
        return tt.odeint_taylor(
            lambda s, y: torch.tanh(y @ w) + torch.sin(s), y0, t, rtol=1e-12, atol=1e-12
        )

    def between(w: Any, y0: Any, t: Any) -> Any:
        return tt.odeint_taylor(
            lambda s, y: torch.tanh(y @ w) + torch.sin(s), y0, t, rtol=1e-12, dense_output=True
        )[1](t64([0.3, 0.15, 0.7]))

    assert gradcheck(states, (w, y0, t))
    assert gradcheck(between, (w, y0, t))


def test_second_gradients() -> None:
    rate, y0 = t64(0.7).requires_grad_(), t64([0.2, 0.5]).requires_grad_()

    def f(rate: Any, y0: Any) -> Any:
        return tt.odeint_taylor(lambda t, y: rate * y * (1 - y), y0, t64(0, 1), rtol=1e-12)

    assert gradgradcheck(f, (rate, y0))


def test_the_gradient_in_the_times_is_the_slope() -> None:
    t = t64(0.5, 1, 2).requires_grad_()
    y = tt.odeint_taylor(lambda t, y: t * y, t64(1.0), t, **exactly)
    (grad,) = torch.autograd.grad(y.sum(), t)
    # y = exp((t^2 - t_0^2) / 2)
    values = y.detach() * t.detach()
    assert_within(grad[1:], values[1:], 1e-13)
    assert_within(grad[0], -0.5 * y[1:].sum().detach(), 1e-13)


def test_the_derivatives_of_the_flow_to_any_order() -> None:
    x0, t = tt.TaylorTensor(t64([0.1, 0.6]), order=4), t64(0, 1, 4)
    y = tt.odeint_taylor(lambda t, y: y * (1 - y), x0, t, **exactly)
    assert y.shape == (3, 2)
    exact = torch.stack([x0 / (x0 + (1 - x0) * torch.exp(-s)) for s in t])
    for a, b in zip(y.coeffs, exact.coeffs, strict=True):
        assert_within(a, b, 1e-12)
    a, b = tt.variables(t64(0.3), t64(1.2), order=2)
    y = tt.odeint_taylor(lambda t, y: b * y, a, t64(0, 0.5), **exactly)
    # a exp(b t)
    assert_within(tt.d(y[-1], a, b).value, 0.5 * math.exp(0.6), 1e-13)
    assert_within(tt.d(y[-1], b, b).value, 0.3 * 0.25 * math.exp(0.6), 1e-13)


def test_a_parameter_that_is_a_series_keeps_its_own_variable() -> None:
    rate = tt.TaylorTensor(t64(2.0), order=3)
    y = tt.odeint_taylor(lambda t, y: -rate * y, t64([1.0, 3.0]), t64(0, 1), **exactly)
    exact = torch.exp(-rate) * t64([1.0, 3.0])
    for a, b in zip(y[-1].coeffs, exact.coeffs, strict=True):
        assert_within(a, b, 1e-13)


def test_expansions_and_integrations_inside_of_the_right_hand_side() -> None:
    def decay(y: Any) -> Any:
        return tt.odeint_taylor(lambda s, z: -z, y, t64(0, 1), **exactly)[-1]

    def inner(t: Any, y: Any) -> Any:
        # d/dx (x^3) by an expansion of its own, and exp(-1) y by an integration of its own
        cube = tt.TaylorTensor(y, order=1) ** 3
        return cube.derivatives[1] / y + decay(y) * math.e

    # y' = 3 y + y
    y = tt.odeint_taylor(inner, t64(1.0), t64(0, 0.5), rtol=1e-12, order=12)
    assert_within(y[-1], math.exp(2), 1e-10)


def test_transforms_inside_and_outside() -> None:
    # d/dz (z y^2) is y^2: the variable of the transform and the time are kept apart
    def square(t: Any, y: Any) -> Any:
        return tt.func.derivatives(lambda z: z * y * y, t64(3.0), order=1)[1]

    y = tt.odeint_taylor(square, t64(1.0), t64(0, 0.5), rtol=1e-12, atol=1e-12)
    assert type(y) is torch.Tensor
    assert_within(y[-1], 2, 1e-10)

    def growth_by(rate: Any) -> Any:
        return tt.odeint_taylor(lambda t, y: rate * y, t64(1.0), t64(0, 1), **exactly)[-1]

    for derivative in tt.func.derivatives(growth_by, t64(0.5), order=3):
        assert_within(derivative, math.exp(0.5), 1e-13)


# --- dense output ---------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [6.0, -6.0])
def test_dense_output_between_the_nodes(end: float) -> None:
    y, solution = tt.odeint_taylor(
        oscillator, t64(1, 0), t64(0, end), rtol=1e-13, atol=1e-13, dense_output=True
    )
    t = torch.linspace(0, end, 101, dtype=torch.float64)
    t = t[torch.randperm(101, generator=torch.Generator().manual_seed(0))]
    assert_within(solution(t), torch.stack([t.cos(), -t.sin()], -1), 1e-12)
    assert solution(t.reshape(1, 101, 1)[:, :4]).shape == (1, 4, 1, 2)
    assert solution(t[:0]).shape == (0, 2)
    assert_within(solution(end / 2), [math.cos(end / 2), -math.sin(end / 2)], 1e-12)
    torch.testing.assert_close(solution(end), y[-1], rtol=0, atol=1e-15)
    assert (solution.nodes[0], solution.nodes[-1]) == (0, end)
    assert len(solution.nodes) == len(solution.pieces) + 1
    assert f"{len(solution.pieces)} steps" in repr(solution)
    for outside in (-0.1 * end, 1.1 * end):
        with pytest.raises(ValueError, match="outside"):
            solution(outside)


def test_the_pieces_are_the_taylor_polynomials() -> None:
    y, solution = tt.odeint_taylor(
        lambda t, y: y, t64([1.0, 2.0]), t64([0.5]), order=6, dense_output=True
    )
    assert y.tolist() == [[1, 2]]
    (piece,) = solution.pieces
    for k, c in enumerate(piece.coeffs):
        assert_within(c, t64([1.0, 2.0]) / math.factorial(k), 1e-15)
    assert_within(solution(0.5), [1, 2], 0)


def test_the_times_asked_for_do_not_change_the_steps() -> None:
    few, many = (torch.linspace(0, 3, n, dtype=torch.float64) for n in (2, 200))
    y, first = tt.odeint_taylor(oscillator, t64(1, 0), few, dense_output=True)
    z, second = tt.odeint_taylor(oscillator, t64(1, 0), many, dense_output=True)
    assert first.nodes == second.nodes
    assert torch.equal(y[-1], z[-1])
    assert_within(z[:, 0], many.cos(), 1e-7)


# --- steps ----------------------------------------------------------------------------------------


def test_kinks_and_jumps_are_seen() -> None:
    y = tt.odeint_taylor(lambda t, y: torch.sin(t).abs(), t64(0.0), t64(0, 10), rtol=1e-10)
    assert_within(y[-1], 6 + 1 - math.cos(10 - 3 * math.pi), 1e-8)
    y = tt.odeint_taylor(lambda t, y: torch.where(t > 1, 3.0, 1.0) + 0 * y, t64(0.0), t64(0, 2))
    assert_within(y[-1], 4, 2e-6)
    y = tt.odeint_taylor(lambda t, y: -torch.relu(y - 1), t64(2.0), t64(0, 3), **exactly)
    assert_within(y[-1], 1 + math.exp(-3), 1e-14)


def test_max_step_finds_what_a_step_would_pass_over() -> None:
    def bump(t: Any, y: Any) -> Any:
        return torch.where((t > 4) & (t < 5), 1.0, 0.0) + 0 * y

    y = tt.odeint_taylor(bump, t64(0.0), t64(0, 10), max_step=0.5)
    assert_within(y[-1], 1, 1e-6)


def test_the_callback_hears_of_each_step() -> None:
    heard: list[tuple[float, float]] = []
    _, solution = tt.odeint_taylor(
        oscillator,
        t64(1, 0),
        t64(0, -5),
        dense_output=True,
        callback=lambda t, h: heard.append((t, h)),
    )
    assert [t for t, _ in heard] == solution.nodes[1:]
    assert sum(h for _, h in heard) == pytest.approx(-5)


# --- torch.compile --------------------------------------------------------------------------------


def test_a_compiled_right_hand_side() -> None:
    net = torch.nn.Sequential(
        torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)
    ).double()
    y0, t = torch.rand(3, 2, dtype=torch.float64), t64(0, 1)
    expected = tt.odeint_taylor(lambda t, y: net(y) * t, y0, t)
    inside = torch.compile(net, backend="eager")
    outside = torch.compile(lambda t, y: net(y) * t, backend="eager")
    for f in (lambda t, y: inside(y) * t, outside):
        counted = Calls(f)
        assert torch.equal(tt.odeint_taylor(counted, y0, t), expected)
        assert counted.count < 20


def test_within_a_compiled_function() -> None:
    @torch.compile(backend="eager")
    def f(y0: torch.Tensor) -> torch.Tensor:
        return 2 * tt.odeint_taylor(lambda t, y: -y, y0 + 0, t64(0, 1), **exactly)[-1]

    assert_within(f(t64(1, 2)), 2 * math.exp(-1) * t64(1, 2), 1e-14)


# --- edges and errors -----------------------------------------------------------------------------


def test_one_time_and_an_empty_batch() -> None:
    calls = Calls(lambda t, y: y)
    assert tt.odeint_taylor(calls, t64(1, 2), t64([3.0])).tolist() == [[1, 2]]
    assert calls.count == 0
    for shape in ((0, 2), (2, 0)):
        y = tt.odeint_taylor(calls, torch.zeros(shape), torch.tensor([0.0, 1.0]))
        assert y.shape == (2, *shape)


def growth(t: Any, y: Any) -> Any:
    return y


BAD: dict[str, tuple[type, str, Callable]] = {
    "integer state": (TypeError, "floating-point", lambda s: s(growth, torch.ones(2).long())),
    "no tensor": (TypeError, "y0, or what it holds", lambda s: s(growth, (1.0,))),
    "empty state": (TypeError, "holds no tensor", lambda s: s(growth, ())),
    "infinite state": (ValueError, "y0 is not finite", lambda s: s(growth, t64(1, math.inf))),
    "NaN state": (ValueError, "y0 is not finite", lambda s: s(growth, t64(math.nan, 1))),
    "integer times": (TypeError, "floating-point", lambda s: s(growth, t=torch.tensor([0, 1]))),
    "list of times": (TypeError, "must be a tensor", lambda s: s(growth, t=[0.0, 1.0])),
    "series of times": (
        TypeError,
        "without a series",
        lambda s: s(growth, t=tt.TaylorTensor(t64(0, 1))),
    ),
    "no times": (ValueError, "at least one time", lambda s: s(growth, t=torch.zeros(0))),
    "a table of times": (ValueError, "one axis", lambda s: s(growth, t=torch.zeros(1, 2))),
    "unsorted times": (ValueError, "increase or decrease", lambda s: s(growth, t=t64(0, 2, 1))),
    "a time twice": (ValueError, "repeated", lambda s: s(growth, t=t64(0, 1, 1))),
    "NaN time": (ValueError, "not finite", lambda s: s(growth, t=t64(0, math.nan))),
    "another shape": (ValueError, r"shape torch.Size\(\[\]\)", lambda s: s(lambda t, y: y[0])),
    "another dtype": (ValueError, "dtype torch.float32", lambda s: s(lambda t, y: y.float())),
    "another structure": (TypeError, "structure of y", lambda s: s(lambda t, y: (y, y))),
    "a number": (TypeError, "what func returns", lambda s: s(lambda t, y: 1.0)),
    "its own series": (
        ValueError,
        "of its own making",
        lambda s: s(lambda t, y: tt.TaylorTensor(y)),
    ),
    "zero tolerances": (ValueError, "not both 0", lambda s: s(growth, rtol=0, atol=0)),
    "negative tolerance": (ValueError, "rtol and atol", lambda s: s(growth, rtol=-1)),
    "NaN tolerance": (ValueError, "rtol and atol", lambda s: s(growth, rtol=math.nan)),
    "order 0": (ValueError, "order must be >= 1", lambda s: s(growth, order=0)),
    "order of a half": (TypeError, "order must be an int", lambda s: s(growth, order=0.5)),
    "max_step 0": (ValueError, "max_step", lambda s: s(growth, max_step=0)),
    "max_steps": (RuntimeError, "3 steps led to", lambda s: s(growth, t=t64(0, 50), max_steps=3)),
    "blow-up": (RuntimeError, "too short to move on", lambda s: s(lambda t, y: y * y)),
    "pole": (RuntimeError, "not finite at t = 0.0", lambda s: s(lambda t, y: y / t)),
    "branch point": (
        RuntimeError,
        "coefficient of degree 2 is not finite",
        lambda s: s(lambda t, y: torch.sqrt(y), t64(0.0)),
    ),
    "NaN slope": (RuntimeError, "slope", lambda s: s(lambda t, y: torch.log(-y))),
}


@pytest.mark.parametrize(("error", "message", "call"), BAD.values(), ids=BAD)
def test_what_is_refused(error: type, message: str, call: Callable) -> None:
    def solve(f: Callable, y0: Any = None, t: Any = None, **options: Any) -> Any:
        y0 = t64(1.0, 2.0) if y0 is None else y0
        return tt.odeint_taylor(f, y0, t64(0, 2) if t is None else t, **options)

    with pytest.raises(error, match=message):
        call(solve)
