"""Compact directions of second-order operators: what is propagated, and that it is exact."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import taylortorch as tt
from taylortorch.engine.directions import Compressed, Operator, Owned
from tests.fields import mlp, points, reverse_laplacian, same, same_gradients

F = tt.func
D = 20
NET = mlp(D)
FIRST = NET[0]


def per_sample(f: Callable) -> Callable:
    return lambda x: f(x).reshape(x.shape[0])


def normalised(x: Any) -> Any:
    """A layer norm; torch's own is wrong in reverse mode from order 3 on."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()


FIELDS: dict[str, Callable] = {
    "narrow first layer": NET,
    "hard boundary": lambda x: (1 - x.square().sum(-1, keepdim=True)) * NET(x),
    "product of all": lambda x: x.prod(-1, keepdim=True) * NET(x) + x.sum(-1, keepdim=True) ** 2,
    "entries first": lambda x: NET(torch.sin(x)),
    "two networks": lambda x: NET(x) + NET(2 * x + 1) * x.mean(-1, keepdim=True),
    "mixed coordinates": lambda x: NET(torch.cat([x[:, 1:], x[:, :1]], 1)),
    "layer norm": lambda x: NET(normalised(x)),
    "norm": lambda x: x.norm(dim=-1, keepdim=True) * NET(x),
    "matmul": lambda x: torch.tanh(x @ FIRST.weight.T).pow(3).sum(-1),
    "softmax": lambda x: (torch.softmax(x, -1) @ FIRST.weight.T).square().sum(-1),
    "skip": lambda x: (torch.tanh(FIRST(x)) + FIRST(x)).prod(-1),
    "twice narrow": lambda x: torch.tanh(FIRST(x)[:, :3] @ FIRST.weight[:3, :2]).prod(-1),
    "in place": lambda x: torch.tanh(FIRST(x)).clone().mul_(2).add_(1).square().sum(-1),
    "wide": lambda x: torch.tanh(x @ points(D, 30, seed=4).detach()).square().sum(-1),
    "expand": lambda x: x.unsqueeze(1).expand(-1, 2, -1).reshape(x.shape[0], -1).prod(-1) * 1e3,
}


@pytest.mark.parametrize("no_grad", [False, True], ids=["grad", "no_grad"])
@pytest.mark.parametrize("name", FIELDS)
def test_exact_with_gradients_of_every_order(name: str, no_grad: bool) -> None:
    f, x = per_sample(FIELDS[name]), points(3, D)
    expected = reverse_laplacian(f(x), x)
    if no_grad:
        with torch.no_grad():
            same(F.laplacian(f)(x), expected)
        return
    got = F.laplacian(f)(x)
    same(got, expected)
    same_gradients(got, expected, [x, *NET.parameters()])


def test_a_weight_with_a_zero_row_and_equal_rows() -> None:
    net = mlp(D)
    with torch.no_grad():
        net[0].weight[2] = 0
        net[0].weight[3] = net[0].weight[1]
    f, x = per_sample(net), points(3, D)
    got, expected = F.laplacian(f)(x), reverse_laplacian(f(x), x)
    same(got, expected)
    same_gradients(got, expected, [x, *net.parameters()])
    with torch.no_grad():
        same(F.laplacian(f)(x), expected)


PHI, RHO = mlp(3, 5), mlp(5, 1)
PARTICLES: dict[str, Callable] = {
    "sum": lambda x: RHO(PHI(x).sum(1)),
    "mean": lambda x: RHO(PHI(x).mean(-2)),
    "separable": lambda x: PHI(x).sum((1, 2)),
    "flat": lambda x: torch.tanh(x.flatten(1)).prod(-1) * 1e3,
    "keepdim": lambda x: (PHI(x) - PHI(x).mean(1, keepdim=True)).square().sum((1, 2)),
    "one channel": lambda x: PHI(x)[..., 0].prod(1),
    "pairs": lambda x: RHO(PHI(x[:, :, None] - x[:, None]).sum((1, 2))),
    "reshaped": lambda x: PHI(x.reshape(-1, 2, 2, 3)).sum((1, 2)).prod(-1),
    "normalised": lambda x: normalised(PHI(x)).square().sum((1, 2)),
    "attention": lambda x: torch.softmax(x @ x.mT, -1).square().sum((1, 2)),
}


@pytest.mark.parametrize("name", PARTICLES)
def test_particles(name: str) -> None:
    f, x = per_sample(PARTICLES[name]), points(2, 4, 3)
    got, expected = F.laplacian(f, event_dims=2)(x), reverse_laplacian(f(x), x)
    same(got, expected)
    same_gradients(got, expected, [x, *PHI.parameters(), *RHO.parameters()])


@pytest.mark.parametrize("d", [9, 16])
def test_nested(d: int) -> None:
    net = mlp(d, width=6)
    for f in (
        per_sample(net),
        per_sample(lambda x: (1 - x.square().sum(-1, keepdim=True)) * net(x)),
    ):
        x = points(2, d)
        expected = reverse_laplacian(reverse_laplacian(f(x), x), x)
        same(F.biharmonic(f)(x), expected)


def test_weights_of_either_sign_are_compressed_too() -> None:
    f, x = per_sample(NET), points(3, D)
    base = points(D, D, seed=2).detach()
    c = base + base.T
    expected = (F.hessian(f)(x) * c).sum((1, 2))
    got = F.weighted_laplacian(f, c)(x)
    same(got, expected)
    same_gradients(got, expected, [x, *NET.parameters()])
    with torch.no_grad():
        same(F.weighted_laplacian(f, c)(x), expected)


def seen(f: Callable, x: torch.Tensor, event_dims: int = 1) -> list[tuple[Any, Any]]:
    """The structure and the rows of degree 1 of everything that ``f`` hands to ``record``."""
    found: list[tuple[Any, Any]] = []

    def record(y: Any) -> Any:
        block = y._blocks[1]
        found.append((y._structure, None if block is None else tuple(block.shape)))
        return y

    F.laplacian(lambda x: f(x, record), event_dims=event_dims)(x)
    return found


def test_what_is_propagated() -> None:
    def f(x: Any, record: Callable) -> Any:
        y = record(torch.tanh(record(FIRST(record(x)))))
        return record(NET[2](y)).sum(-1)

    x = points(7, D).detach()
    seed, first, activated, second = seen(f, x)
    # the identity is never written out, and a layer of width 8 leaves 8 of the 20 directions,
    # owned by its entries until the next layer mixes them
    assert isinstance(seed[0], Owned)
    assert seed[1] == (1, 1, 1)
    assert isinstance(first[0], Owned)
    assert first[1] == (1, 1, 1)
    assert activated[1] == (1, 7, 8)
    assert isinstance(second[0], Compressed)
    assert second[1] == (8, 7, 8)
    assert isinstance(second[0].weights, torch.Tensor)
    with torch.no_grad():
        *_, second = seen(f, x)
    assert isinstance(second[0], Compressed)
    assert second[0].weights == 1


def test_a_sum_over_owners_costs_no_more_than_the_owned_block() -> None:
    def f(x: Any, record: Callable) -> Any:
        return record(record(PHI(x)).sum(1)).sum(-1)

    before, after = seen(f, points(2, 4, 3).detach(), event_dims=2)
    assert isinstance(before[0], Owned)
    assert before[1] == (3, 2, 4, 5)
    assert isinstance(after[0], Operator)
    assert after[1] == (12, 2, 5)


def test_a_hundred_thousand_dimensions() -> None:
    d = 100_000
    net = mlp(d, width=16)
    x = points(2, d).detach() / d**0.5

    def f(x: Any) -> Any:
        return ((1 - x.square().sum(-1, keepdim=True)) * net(x))[:, 0]

    got = F.laplacian(f)(x)
    # a product rule with the Laplacian and gradient of the network in its 16 preactivations
    w = net[0].weight
    g = lambda z: net[1:](z)[..., 0]  # noqa: E731
    z = net[0](x)
    slope, hessian = F.jacfwd(g)(z), F.hessian(g)(z)
    laplacian = (hessian * (w @ w.T)).sum((1, 2))
    r2 = x.square().sum(-1)
    expected = (1 - r2) * laplacian - 4 * ((slope @ w) * x).sum(-1) - 2 * d * g(z)
    same(got, expected)


WIDE = torch.rand(8, 5, dtype=torch.float64)


def test_directions_lie_in_memory_as_they_are_numbered() -> None:
    """Otherwise a linear layer on them is one product per direction."""
    seen = []

    def f(x: Any) -> Any:
        wide = torch.tanh(torch.nn.functional.linear(x, WIDE))
        seen.append(wide._blocks[1])
        return wide.sum(-1)

    x = torch.rand(3, 5, dtype=torch.float64)
    F.laplacian(f)(x)
    assert seen[0].shape == (5, 3, 8)
    assert seen[0].is_contiguous()
