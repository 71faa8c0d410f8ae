"""Stochastic estimators: unbiased, with the variance that the documentation states."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import taylortorch as tt
from tests.fields import F64, mlp, points, same

S = tt.func.stochastic
D, N = 6, 4000
NET = mlp(D)
X = points(1, D).detach()
KINDS = [("rademacher", False), ("gaussian", False), ("coordinates", False), ("coordinates", True)]


def field(x: Any) -> Any:
    return NET(x)[:, 0]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def unbiased(estimates: torch.Tensor, exact: torch.Tensor) -> None:
    """Within four standard errors of the exact value."""
    error = estimates.std() / math.sqrt(len(estimates))
    assert abs(estimates.mean() - exact) < 4 * error
    assert estimates.std() > 0


@pytest.mark.parametrize(("directions", "replacement"), KINDS)
def test_laplacian(directions: str, replacement: bool) -> None:
    samples = 2
    exact = tt.func.laplacian(field)(X)[0].detach()
    h = tt.func.hessian(field)(X)[0].detach()
    estimate = S.laplacian(
        field,
        samples,
        directions=directions,
        replacement=replacement,
        per_sample=True,
        generator=generator(),
        return_value=True,
    )
    got, value = estimate(X.expand(N, D))
    same(value, field(X).expand(N), 1e-14)
    unbiased(got, exact)
    diagonal = h.diagonal()
    coordinates = D * diagonal.square().sum() - exact**2
    variance = {
        "gaussian": 2 * h.square().sum(),
        "rademacher": 2 * (h.square().sum() - diagonal.square().sum()),
        "coordinates": coordinates * (1 if replacement else (D - samples) / (D - 1)),
    }[directions]
    assert abs(got.var() / (variance / samples) - 1) < 0.15


@pytest.mark.parametrize(("directions", "replacement"), KINDS)
def test_biharmonic(directions: str, replacement: bool) -> None:
    exact = tt.func.biharmonic(field)(X)[0]
    estimate = S.biharmonic(
        field,
        2,
        directions=directions,
        replacement=replacement,
        per_sample=True,
        generator=generator(1),
    )
    unbiased(estimate(X.expand(N, D)), exact)


@pytest.mark.parametrize("replacement", [False, True])
def test_linear_operator(replacement: bool) -> None:
    terms: dict[tuple[int, ...], Any] = {
        (2, 0, 0, 0, 0, 0): 3,
        (0, 2, 0, 0, 0, 0): -1,
        (0, 0, 1, 1, 0, 0): torch.tensor(0.5, dtype=F64),
        (0, 0, 0, 0, 1, 0): lambda x: x[:, 0],
        (0,) * 6: 1,
    }
    exact = tt.func.linear_operator(field, terms)(X)[0]
    estimate = S.linear_operator(field, terms, 2, replacement=replacement, generator=generator(2))
    unbiased(torch.stack([estimate(X)[0] for _ in range(300)]), exact)


@pytest.mark.parametrize("directions", S.DIRECTIONS)
def test_all_directions_are_exact_where_they_can_be(directions: str) -> None:
    # all coordinates without replacement are the Laplacian; +-1 entries are exact without mixed
    # second derivatives
    x = points(3, D).detach()
    f = lambda x: (x**3).sum(-1)  # noqa: E731
    samples = {"coordinates": D, "rademacher": 1, "gaussian": 4000}[directions]
    got = S.laplacian(f, samples, directions=directions, generator=generator())(x)
    same(got, 6 * x.sum(-1), 1e-9 if directions != "gaussian" else 1.0)


def test_shared_or_per_sample_and_reproducible() -> None:
    x = X.expand(5, D)
    shared = S.laplacian(field, 2, generator=generator())(x)
    assert shared.std() < 1e-12
    own = S.laplacian(field, 2, per_sample=True, generator=generator())(x)
    assert own.std() > 1e-6
    again = S.laplacian(field, 2, per_sample=True, generator=generator())(x)
    same(own, again, 0)


def test_differentiable() -> None:
    x = points(3, D)
    got = S.laplacian(field, D, directions="coordinates", generator=generator())(x)
    exact = tt.func.laplacian(field)(x)
    parameters = [x, *NET.parameters()][:-1]
    for a, b in zip(
        torch.autograd.grad(got.sum(), parameters),
        torch.autograd.grad(exact.sum(), parameters),
        strict=True,
    ):
        same(a, b)


def test_particles_and_one_point() -> None:
    f = lambda x: x.square().sum((-1, -2))  # noqa: E731
    x = points(2, 4, 3).detach()
    for directions in ("rademacher", "coordinates"):
        got = S.laplacian(f, 5, directions=directions, event_dims=2, per_sample=True)(x)
        same(got, torch.full((2,), 24.0, dtype=F64))
    same(S.laplacian(lambda x: x.square().sum(-1), 3)(x[0, 0]), torch.tensor(6.0, dtype=F64))


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        (lambda: S.laplacian(field, 0), ValueError, "samples must be at least 1"),
        (lambda: S.laplacian(field, 1.5), TypeError, "samples must be an int"),
        (lambda: S.laplacian(field, 1, directions="normal"), ValueError, "must be one of"),
        (
            lambda: S.laplacian(field, D + 1, directions="coordinates")(X),
            ValueError,
            "7 samples of 6 coordinates.*replacement=True",
        ),
        (lambda: S.linear_operator(field, {(1,) * D: 1}, 2), ValueError, "2 samples of 1 terms"),
        (lambda: S.linear_operator(field, [], 2), TypeError, "mapping"),
        (lambda: S.laplacian(X, 2), TypeError, "takes a function"),
    ],
)
def test_bad_input(use: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        use()
