"""The models: written as their users write them, for a batch of any leading axes."""

from __future__ import annotations

import itertools

import torch
from torch import nn


class Bell(nn.Module):
    """``exp(-beta x^2)``, entry by entry."""

    def __init__(self) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.tensor(0.7))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.exp(-self.beta * x**2)


def mlp(*widths: int) -> nn.Sequential:
    """A tanh network through these widths, the first its input, the last its output."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


class HardBoundary(nn.Module):
    """A network times ``1 - |x|^2``: zero on the unit sphere whatever its parameters."""

    def __init__(self, network: nn.Sequential) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (1 - x.square().sum(-1, keepdim=True)) * self.network(x)


class Particles(nn.Module):
    """``rho(sum_i phi(x_i))`` of particles ``(..., n, 3)``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.phi = nn.Sequential(mlp(3, width, width), nn.Tanh())
        self.rho = nn.Linear(width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rho(self.phi(x).sum(-2))


class Norm(nn.Module):
    """``nn.LayerNorm`` written out.

    The third derivatives of ``torch.layer_norm`` by autograd are wrong (torch 2.13: they differ
    from finite differences of the second), so nested autograd and torch.func could not take part in
    the training step.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scale = (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return centred / scale * self.weight + self.bias


class Block(nn.Module):
    """A pre-norm transformer block over tokens at ``(..., n, 3)``, summed to an energy."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.width, self.heads = width, heads
        self.embed = nn.Linear(3, width)
        self.norm1, self.norm2 = Norm(width), Norm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.energy = nn.Linear(width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.embed(x)
        q, k, v = self.qkv(self.norm1(h)).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        q, k, v = q.transpose(-2, -3), k.transpose(-2, -3), v.transpose(-2, -3)
        scores = q @ k.transpose(-1, -2) / (self.width / self.heads) ** 0.5
        mixed = torch.softmax(scores, -1) @ v
        h = h + self.out(mixed.transpose(-2, -3).flatten(-2))
        h = h + self.down(nn.functional.gelu(self.up(self.norm2(h)), approximate="tanh"))
        return self.energy(h).sum(-2)


class Potential(nn.Module):
    """An energy of atoms at ``(..., n, 3)`` in the manner of SchNet.

    Radial basis functions of the distances of all pairs, two continuous-filter convolutions, and a
    sum of the energies of the atoms.

    Source: Schuett et al. (2017), arXiv:1706.08566.
    """

    def __init__(self, atoms: int, width: int, functions: int) -> None:
        super().__init__()
        self.features = nn.Parameter(torch.randn(atoms, width))
        self.filters = nn.ModuleList([mlp(functions, width, width) for _ in range(2)])
        self.updates = nn.ModuleList([mlp(width, width, width) for _ in range(2)])
        self.energy = mlp(width, width, 1)
        others = [[j for j in range(atoms) if j != i] for i in range(atoms)]
        self.register_buffer("others", torch.tensor(others))
        self.register_buffer("centres", torch.linspace(0, 4, functions))
        self.sharpness = functions / 4

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        between = x.unsqueeze(-2) - x[..., self.others, :]
        distance = between.square().sum(-1, keepdim=True).sqrt()
        basis = torch.exp(-self.sharpness * (distance - self.centres) ** 2)
        h = self.features
        for filters, update in zip(self.filters, self.updates, strict=True):
            h = h + update((h[..., self.others, :] * filters(basis)).sum(-2))
        return self.energy(h).sum(-2)
