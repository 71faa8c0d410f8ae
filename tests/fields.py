"""Models and reverse-mode derivatives that the tests of operators and transforms share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

F64 = torch.float64


def points(*shape: int, seed: int = 0, dtype: torch.dtype = F64) -> torch.Tensor:
    """Random points that require grad."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=dtype, generator=generator).requires_grad_()


def mlp(
    inputs: int, outputs: int = 1, width: int = 8, activation: type = torch.nn.Tanh
) -> torch.nn.Module:
    """A small network in double precision, the same at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.nn.Sequential(
            torch.nn.Linear(inputs, width),
            activation(),
            torch.nn.Linear(width, width),
            torch.nn.Softplus(),
            torch.nn.Linear(width, outputs),
        ).double()


def partial(u: torch.Tensor, x: torch.Tensor, coordinates: Sequence[int]) -> torch.Tensor:
    """The derivative of a per-sample ``u`` by each coordinate of ``x`` in turn, in reverse mode.

    ``x`` has the batch axes of ``u``, then its event axes, which are counted through.
    """
    for i in coordinates:
        (slope,) = torch.autograd.grad(
            u.sum(), x, create_graph=True, allow_unused=True, materialize_grads=True
        )
        u = slope.reshape(*u.shape, -1)[..., i]
    return u


def per_output(operator: Callable[[torch.Tensor], torch.Tensor], u: torch.Tensor) -> torch.Tensor:
    """An operator of scalar fields on each component of ``(N, m)``."""
    return torch.stack([operator(u[:, n]) for n in range(u.shape[1])], 1)


def reverse_laplacian(u: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The Laplacian of a per-sample scalar ``u``, in reverse mode over reverse mode."""
    count = x.numel() // max(u.numel(), 1)
    return torch.stack([partial(u, x, [i, i]) for i in range(count)]).sum(0)


def same(got: Any, expected: torch.Tensor, tolerance: float = 1e-9) -> None:
    """Assert that a derivative (a series of order 0, or a tensor) has these values."""
    value = got.value if hasattr(got, "coeffs") else got
    torch.testing.assert_close(value, expected, rtol=tolerance, atol=tolerance)


def same_gradients(
    got: torch.Tensor,
    expected: torch.Tensor,
    parameters: Sequence[torch.Tensor],
    twice: bool = True,
) -> None:
    """Assert that first (and second) gradients of a loss on both results agree."""
    weights = torch.linspace(0.5, 1.5, expected.numel(), dtype=F64).reshape(expected.shape)
    found = []
    for result in (got, expected):
        first = torch.autograd.grad(
            (weights * result**2).sum(),
            parameters,
            create_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        second: tuple[torch.Tensor, ...] = ()
        if twice:
            second = torch.autograd.grad(
                sum((g**2).sum() for g in first),
                parameters,
                allow_unused=True,
                materialize_grads=True,
            )
        found.append((*first, *second))
    count = len(parameters)
    for n, (a, b) in enumerate(zip(*found, strict=True)):
        # some gradients vanish but for rounding
        alike = found[1][:count] if n < count else found[1][count:]
        scale = max(float(g.detach().abs().max()) for g in alike) + 1e-30
        torch.testing.assert_close(a / scale, b / scale, rtol=1e-8, atol=1e-8)
