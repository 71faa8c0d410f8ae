"""Burgers' equation and its front: the classic of physics-informed networks.

    u_t + u u_x = nu u_xx    for -1 < x < 1, 0 < t < 1,    nu = 0.01 / pi,
    u = -sin(pi x)           at t = 0,    u = 0    at x = -1 and 1.

The wave steepens to a front of width nu at x = 0 (Raissi, Perdikaris & Karniadakis 2019). The
solution is odd in x, so half of the domain is enough. The network has the initial and boundary
values built in: training has to solve the equation only. Its residual needs u_x, and of u_t and
u_xx only what the equation combines. Along the curve

    x + s,  t - s^2 / (2 nu)    the derivatives of u are    u_x  and  u_xx - u_t / nu    at s = 0,

so one curve is enough: tt.func.jet gives both from one forward pass. (With tt.variables the terms
are written one by one, as in kuramoto_sivashinsky.py; that carries one coefficient more.) By nested
autograd the residual takes two calls of torch.autograd.grad. Both train a copy of the same network
on the same points, step by step in turn. Derivatives as few and low as these are where the two
differ least in time; kuramoto_sivashinsky.py and plate.py have order 4.

The reference is the Cole-Hopf formula, by Gauss-Hermite quadrature. The script asserts the error of
the network, and that the two ways have the same losses; it draws the solution, sections of it, and
the losses over the seconds spent.

    python examples/burgers.py            half a minute
    python examples/burgers.py --quick    a few seconds: three times the viscosity
    python examples/burgers.py --full     a larger network, trained further
"""

from __future__ import annotations

import math
from pathlib import Path

import _frame as frame
import numpy as np
import torch
from torch import nn

import taylortorch as tt

torch.set_default_dtype(torch.float64)


class Wave(nn.Module):
    """The initial wave plus a network times what vanishes at t = 0, x = 0 and x = 1.

    Near x = 0 a second coordinate, tanh(x / front), magnifies the front.
    """

    def __init__(self, width: int, depth: int, front: float) -> None:
        super().__init__()
        self.front = front
        layers: list[nn.Module] = [nn.Linear(3, width), nn.Tanh()]
        for _ in range(depth - 1):
            layers += [nn.Linear(width, width), nn.Tanh()]
        self.network = nn.Sequential(*layers, nn.Linear(width, 1))

    def forward(self, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        near = torch.tanh(x / self.front)
        inputs = torch.cat([2 * t - 1, 2 * x - 1, 2 * near - 1], dim=1)
        return t * near * (1 - x) * self.network(inputs) - torch.sin(math.pi * x)


# --- the same residual in two ways --------------------------------------------------------------


def taylor_residual(model: nn.Module, t: torch.Tensor, x: torch.Tensor, nu: float) -> torch.Tensor:
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    # the first and second derivatives of t and x along the curve
    u, (first, second) = tt.func.jet(model, (t, x), ((zero, -one / nu), (one, zero)))
    return u * first - nu * second


def nested_residual(model: nn.Module, t: torch.Tensor, x: torch.Tensor, nu: float) -> torch.Tensor:
    t, x = t.clone().requires_grad_(True), x.clone().requires_grad_(True)
    u = model(t, x)
    u_t, u_x = torch.autograd.grad(u.sum(), (t, x), create_graph=True)
    (u_xx,) = torch.autograd.grad(u_x.sum(), x, create_graph=True)
    return u_t + u * u_x - nu * u_xx


# --- the reference ------------------------------------------------------------------------------


def cole_hopf(t: torch.Tensor, x: torch.Tensor, nu: float) -> torch.Tensor:
    """The exact solution: u = -2 nu phi_x / phi, where phi obeys the heat equation."""
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.hermite.hermgauss(200))
    y = x[..., None] - torch.sqrt(4 * nu * t)[..., None] * nodes
    exponent = -torch.cos(math.pi * y) / (2 * math.pi * nu)
    phi = weights * torch.exp(exponent - exponent.amax(-1, keepdim=True))
    return -(torch.sin(math.pi * y) * phi).sum(-1) / phi.sum(-1)


# --- the picture --------------------------------------------------------------------------------


def draw(model: nn.Module, nu: float, runs: dict[str, frame.Run], picture: Path) -> None:
    t = torch.linspace(0, 1, 101)
    # finer near the front, where there is something to see
    half = torch.linspace(0, 1, 121) ** 2
    x = torch.cat([-half.flip(0)[:-1], half])
    times, places = torch.meshgrid(t, x, indexing="ij")

    def wave(times: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            u = model(times.reshape(-1, 1), places.abs().reshape(-1, 1)).reshape(times.shape)
        return torch.where(places < 0, -u, u)

    u, exact = wave(times, places), cole_hopf(times, places, nu)
    figure = frame.figure(13, 7.4)
    top, bottom = figure.subplots(2, 3)
    frame.field(top[0], t, x, u, "u, network", cmap="RdBu_r", limits=(-1, 1))
    frame.field(top[1], t, x, exact, "u, exact (Cole-Hopf)", cmap="RdBu_r", limits=(-1, 1))
    difference = u - exact
    most = difference.abs().max().item()
    frame.field(top[2], t, x, difference, "difference", cmap="RdBu_r", limits=(-most, most))
    for axes in top:
        axes.set_xlabel("t")
        axes.set_ylabel("x", rotation=0)
        axes.set_yticks([-1, 0, 1])

    axes = bottom[0]
    sections = {0.0: "#9aa8b8", 0.25: "#4c9be8", 0.5: "#1f5fa8", 1.0: "#1f9e89"}
    for n, (moment, colour) in enumerate(sections.items()):
        at = torch.full_like(x, moment)
        u = wave(at, x)
        axes.plot(x, u, color=colour, linewidth=3.5)
        axes.plot(x, cole_hopf(at, x, nu), "--", color="#222222", linewidth=1)
        axes.text(
            0.97,
            0.9 - 0.09 * n,
            f"t = {moment:g}",
            color=colour,
            transform=axes.transAxes,
            ha="right",
        )
    axes.text(0.04, 0.06, "dashed: exact", color="#222222", transform=axes.transAxes)
    axes.set_title("sections")
    axes.set_xlabel("x")
    axes.set_xlim(-1, 1)
    axes.set_ylim(-1.15, 1.25)
    frame.loss_over_time(bottom[1], runs)
    frame.loss_over_time(bottom[2], runs, what="error")
    frame.save(figure, picture)


# --- all of it ----------------------------------------------------------------------------------


def main() -> None:
    sizes = ("viscosity", "width", "depth", "points", "adam", "lbfgs", "claim")
    setting = frame.start(
        __doc__,
        __file__,
        quick=dict(zip(sizes, (0.03, 14, 2, 200, 60, 8, 5e-2), strict=True)),
        default=dict(zip(sizes, (0.01, 24, 3, 1000, 200, 60, 2e-3), strict=True)),
        full=dict(zip(sizes, (0.01, 32, 3, 2000, 500, 100, 1e-3), strict=True)),
    )
    nu = setting.viscosity / math.pi
    model = Wave(setting.width, setting.depth, front=2 * setting.viscosity)
    drawn = torch.quasirandom.SobolEngine(2, scramble=True, seed=0).draw(setting.points)
    t, x = drawn.double().split(1, dim=1)
    x = x**3  # denser near the front
    # all terms of the equation grow there as the slope does: to about t / front
    weight = 1 / (1 + torch.exp(-x / model.front) * t / model.front)

    times, places = torch.meshgrid(
        torch.linspace(0, 1, 51), torch.linspace(0, 1, 101), indexing="ij"
    )
    exact = cole_hopf(times, places, nu)

    def error(model: nn.Module) -> float:
        with torch.no_grad():
            u = model(times.reshape(-1, 1), places.reshape(-1, 1)).reshape(exact.shape)
        return frame.relative_l2(u, exact)

    runs = frame.train(
        model,
        {
            frame.TAYLOR: lambda m: ((weight * taylor_residual(m, t, x, nu)) ** 2).mean(),
            frame.NESTED: lambda m: ((weight * nested_residual(m, t, x, nu)) ** 2).mean(),
        },
        [frame.adam(setting.adam, lr=5e-3), frame.lbfgs(setting.lbfgs)],
        error,
    )
    frame.summarise(runs, setting.claim, agree_for=min(setting.adam, 100))
    draw(model, nu, runs, setting.picture)


if __name__ == "__main__":
    main()
