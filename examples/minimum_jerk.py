"""Minimum jerk: trajectories whose third time derivative is as small as can be.

A hand that reaches for something, and a robot that is meant to move like one, minimise the
integral of the squared jerk |x'''(t)|^2 (Flash and Hogan 1985). A network x(t) is trained to do so,
from rest at the start to rest at the goal, in two tasks:

1. Through a via point at a given time. The solution is known: a polynomial of degree 5 before the
   via point and another one after it, with four continuous derivatives at it.
2. Around obstacles. There is no closed form; the path must keep clear of them, and costs more
   than the straight one.

The jerk is one line, for as many coordinates as x has:

    jerk = trajectory(tt.TaylorTensor(t, order=3)).derivatives[3]

By nested autograd it takes three calls of torch.autograd.grad for each coordinate, each through the
graph of the one before; by torch.func, three nested calls of jvp. All train a copy of the same
network, step by step in turn. Start, goal, rest and via point are built into the network, so the
loss is the integral alone.

    python examples/minimum_jerk.py            half a minute
    python examples/minimum_jerk.py --quick    a few seconds: fewer steps, less accuracy
    python examples/minimum_jerk.py --full     a larger network, trained further
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import _frame as frame
import numpy as np
import torch
from matplotlib.patches import Circle
from torch import nn

import taylortorch as tt

torch.set_default_dtype(torch.float64)

FUNC = "nested jvp"
START, GOAL = torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.25])
VIA, VIA_TIME = torch.tensor([0.3, 0.6]), 0.4
# x, y, radius
OBSTACLES = torch.tensor([[0.28, 0.02, 0.14], [0.62, 0.25, 0.13]])
MARGIN = 0.02
STRAIGHT = 720 * ((GOAL - START) ** 2).sum().item()  # integral of the squared jerk of a free reach


class Trajectory(nn.Module):
    """x(t) for 0 <= t <= 1: from rest at START to rest at GOAL, whatever the weights.

    The free reach is a polynomial; the network adds something that vanishes at both ends together
    with two derivatives, and at the via point if there is one.
    """

    def __init__(self, width: int, via: torch.Tensor | None = None) -> None:
        super().__init__()
        self.via = via
        self.network = nn.Sequential(
            nn.Linear(1, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 2)
        )

    def reach(self, t: torch.Tensor) -> torch.Tensor:
        return START + (GOAL - START) * t**3 * (10 - 15 * t + 6 * t**2)

    def bend(self, t: torch.Tensor) -> torch.Tensor:
        return 64 * t**3 * (1 - t) ** 3

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        more = self.network(2 * t - 1)
        if self.via is not None:
            there = torch.tensor([[VIA_TIME]])
            missing = (self.via - self.reach(there)) / self.bend(there)
            more = more - self.network(2 * there - 1) + missing
        return self.reach(t) + self.bend(t) * more


# --- the same jerk in three ways ----------------------------------------------------------------


def by_taylor(trajectory: nn.Module, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    x = trajectory(tt.TaylorTensor(t, order=3))
    return x.value, x.derivatives[3]


def by_nested_autograd(trajectory: nn.Module, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    t = t.clone().requires_grad_(True)
    x = trajectory(t)
    columns = []
    for column in x.unbind(1):
        for _ in range(3):
            (column,) = torch.autograd.grad(column.sum(), t, create_graph=True)
        columns.append(column)
    return x, torch.cat(columns, dim=1)


def by_nested_jvp(trajectory: nn.Module, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    ones = torch.ones_like(t)

    def velocity(t: torch.Tensor) -> torch.Tensor:
        return torch.func.jvp(trajectory, (t,), (ones,))[1]

    def acceleration(t: torch.Tensor) -> torch.Tensor:
        return torch.func.jvp(velocity, (t,), (ones,))[1]

    return trajectory(t), torch.func.jvp(acceleration, (t,), (ones,))[1]


WAYS = {frame.TAYLOR: by_taylor, frame.NESTED: by_nested_autograd, FUNC: by_nested_jvp}


# --- the known solution -------------------------------------------------------------------------


def exact_derivatives(t: torch.Tensor, order: int = 3) -> list[torch.Tensor]:
    """Of the optimal path through the via point: a quintic, and c (t - s)_+^5 after the time s.

    The integral is stationary where the sixth derivative of x vanishes but at s, where the fifth
    may jump. Seven conditions for seven coefficients, for each coordinate.
    """

    def rows(t: torch.Tensor, k: int) -> torch.Tensor:
        """The derivative of order k of 1, t, ..., t^5 and (t - s)_+^5, a row for each time."""
        factor = [np.prod([float(p - i) for i in range(k)]) for p in range(6)]
        powers = [factor[p] * t ** max(p - k, 0) for p in range(6)]
        return torch.stack([*powers, factor[5] * (t - VIA_TIME).clamp_min(0) ** (5 - k)], -1)

    ends = torch.tensor([0.0, 1.0])
    conditions = torch.cat([rows(ends, k) for k in range(3)] + [rows(torch.tensor([VIA_TIME]), 0)])
    rest = torch.zeros(4, 2)
    coefficients = torch.linalg.solve(
        conditions, torch.cat([torch.stack([START, GOAL]), rest, VIA[None]])
    )
    return [rows(t, k) @ coefficients for k in range(order + 1)]


# --- the two tasks ------------------------------------------------------------------------------


class Quadrature:
    """Gauss-Legendre on the pieces before and after the via time."""

    def __init__(self, count: int) -> None:
        x, w = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(count))
        ends = ((0.0, VIA_TIME), (VIA_TIME, 1.0))
        self.times = torch.cat([a + (b - a) * (x + 1) / 2 for a, b in ends])[:, None]
        self.weights = torch.cat([(b - a) * w / 2 for a, b in ends])

    def integral(self, values: torch.Tensor) -> torch.Tensor:
        return (self.weights * values).sum()


def clearance(x: torch.Tensor) -> torch.Tensor:
    """The distance from the nearest obstacle, for every point of a path."""
    return ((x[:, None] - OBSTACLES[:, :2]).norm(dim=2) - OBSTACLES[:, 2]).amin(1)


def through_via_point(setting: SimpleNamespace) -> tuple[Trajectory, dict[str, frame.Run]]:
    print("1. Through the via point")
    rule = Quadrature(setting.points)
    trajectory = Trajectory(setting.width, VIA)
    exact = exact_derivatives(rule.times[:, 0])
    least = rule.integral((exact[3] ** 2).sum(1)).item()

    def loss_of(way) -> frame.Loss:
        def loss(trajectory: nn.Module) -> torch.Tensor:
            _, jerk = way(trajectory, rule.times)
            return rule.integral((jerk**2).sum(1)) / STRAIGHT

        return loss

    def error(trajectory: nn.Module) -> float:
        """Of the path, relative to its deviation from the free reach."""
        with torch.no_grad():
            off = trajectory(rule.times) - exact[0]
            return (off.norm() / (exact[0] - trajectory.reach(rule.times)).norm()).item()

    runs = frame.train(
        trajectory,
        {name: loss_of(way) for name, way in WAYS.items()},
        [frame.lbfgs(setting.via_steps)],
        error,
        stop_after={frame.NESTED: setting.others, FUNC: setting.others},
    )
    jerk = by_taylor(trajectory, rule.times)[1].detach()
    cost = rule.integral((jerk**2).sum(1)).item()
    off = frame.relative_l2(jerk, exact[3])
    print(f"   Cost {cost:.3f}, least possible {least:.3f}; the jerk is {off:.2%} off")
    assert least * (1 - 1e-9) < cost < least * (1 + setting.cost_claim), "cost"
    frame.summarise(runs, setting.claim, same=tuple(WAYS), agree_for=2)
    return trajectory, runs


def around_obstacles(setting: SimpleNamespace) -> Trajectory:
    print("2. Around the obstacles")
    rule = Quadrature(setting.points)
    trajectory = Trajectory(setting.width)
    with torch.no_grad():
        straight = clearance(trajectory.reach(rule.times)).min().item()
        # something has to say on which side: start with a bow
        trajectory.network[-1].bias.copy_(torch.tensor([0.0, 0.3]))

    def loss(trajectory: nn.Module) -> torch.Tensor:
        x, jerk = by_taylor(trajectory, rule.times)
        inside = (MARGIN - clearance(x)).clamp_min(0)
        return rule.integral((jerk**2).sum(1)) / STRAIGHT + 1e5 * rule.integral(inside**2)

    fine = torch.linspace(0, 1, 1001)[:, None]

    def too_close(trajectory: nn.Module) -> float:
        with torch.no_grad():
            return max(0.0, -clearance(trajectory(fine)).min().item())

    frame.train(trajectory, {"obstacles": loss}, [frame.lbfgs(setting.obstacle_steps)], too_close)
    _, jerk = by_taylor(trajectory, rule.times)
    cost = rule.integral((jerk**2).sum(1)).item()
    with torch.no_grad():
        clear = clearance(trajectory(fine)).min().item()
    print(
        f"   The straight path would pass {-straight:.3f} inside; this one keeps {clear:.3f} "
        f"clear, at {cost / STRAIGHT:.2f} times the cost.\n"
    )
    assert straight < 0 < clear, "the path hits an obstacle"
    assert cost > STRAIGHT
    return trajectory


# --- the picture --------------------------------------------------------------------------------


def draw(via: Trajectory, obstacles: Trajectory, runs: dict[str, frame.Run], picture: Path) -> None:
    figure = frame.figure(14, 7.8)
    left, middle, right = figure.subfigures(1, 3, width_ratios=(1.15, 1, 0.9), wspace=0.02)
    top, bottom = left.subplots(2, 1)
    t = torch.linspace(0, 1, 301)[:, None]
    exact = exact_derivatives(t[:, 0])
    with torch.no_grad():
        found = via(tt.TaylorTensor(t, order=3)).derivatives
    path, dark = frame.COLOURS[frame.TAYLOR], "#222222"
    top.plot(*exact[0].T, color="#cccccc", linewidth=6, label="exact: two quintics")
    top.plot(*found[0].T, color=path, linewidth=2, label="network")
    top.plot(*VIA, "D", color="#e4704f", markersize=8, zorder=3)
    top.annotate("via point", VIA.tolist(), xytext=(8, -22), textcoords="offset points")
    top.legend(frameon=False, loc="lower center")
    top.set_title("through a via point")
    for x, y, radius in OBSTACLES.tolist():
        bottom.add_patch(Circle((x, y), radius, color="#f3c9bb"))
    straight = via.reach(t)
    bottom.plot(*straight.T, ":", color="#888888", label="free reach")
    with torch.no_grad():
        around = obstacles(t)
    bottom.plot(*around.T, color=path, linewidth=2, label="network")
    bottom.legend(frameon=False, loc="lower right")
    bottom.set_title("around obstacles, dots at equal times")
    for axes, x in ((top, found[0]), (bottom, around)):
        axes.plot(*x[::15].T, "o", color=path, markersize=4)
        axes.plot(*torch.stack([START, GOAL]).T, "o", color=dark, markersize=7)
        axes.annotate("start", START.tolist(), xytext=(-6, -16), textcoords="offset points")
        axes.annotate("goal", GOAL.tolist(), xytext=(4, 8), textcoords="offset points")
        axes.set_aspect("equal")
        axes.margins(0.1)
        axes.set_axis_off()
    panels = middle.subplots(3, 1, sharex=True)
    for k, (axes, name) in enumerate(
        zip(panels, ("speed", "acceleration", "jerk"), strict=True), 1
    ):
        for i, colour in enumerate(("#4c9be8", "#f0a030")):
            axes.plot(t, found[k][:, i], color=colour, linewidth=4, label=f"{'xy'[i]}, network")
            axes.plot(t, exact[k][:, i], "--", color=dark, linewidth=1.2)
        axes.axvline(VIA_TIME, color="#e4704f", linewidth=1)
        axes.set_ylabel(name)
        axes.set_xlim(0, 1)
    panels[0].plot([], [], "--", color=dark, linewidth=1.2, label="exact")
    panels[0].set_ylim(-2, 3.6)
    panels[0].legend(frameon=False, fontsize=9.5, loc="upper center", ncols=3)
    panels[0].set_title("derivatives along the via path")
    panels[2].set_xlabel("time")
    middle.align_ylabels(panels)
    top, bottom = right.subplots(2, 1)
    frame.loss_over_time(top, runs, what="error")
    bottom.plot(t, (found[0] - exact[0])[:, 0], color="#4c9be8", label="x")
    bottom.plot(t, (found[0] - exact[0])[:, 1], color="#f0a030", label="y")
    bottom.axhline(0, color="#dddddd", linewidth=1, zorder=0)
    bottom.set_title("error of the via path")
    bottom.set_xlabel("time")
    bottom.set_xlim(0, 1)
    bottom.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    bottom.legend(frameon=False, ncols=2)
    frame.save(figure, picture)


def main() -> None:
    setting = frame.start(
        __doc__,
        __file__,
        quick={
            "width": 16,
            "points": 32,
            "via_steps": 6,
            "others": 1,
            "obstacle_steps": 6,
            "claim": 0.01,
            "cost_claim": 0.01,
        },
        default={
            "width": 32,
            "points": 64,
            "via_steps": 50,
            "others": 6,
            "obstacle_steps": 40,
            "claim": 0.001,
            "cost_claim": 0.001,
        },
        full={
            "width": 64,
            "points": 256,
            "via_steps": 200,
            "others": 40,
            "obstacle_steps": 150,
            "claim": 0.001,
            "cost_claim": 0.001,
        },
    )
    t = torch.rand(20, 1)
    trajectory = Trajectory(setting.width, VIA)
    for name, way in WAYS.items():
        for a, b in zip(way(trajectory, t), by_taylor(trajectory, t), strict=True):
            assert torch.allclose(a, b, rtol=1e-9, atol=1e-9), f"{name} disagrees"
    via, runs = through_via_point(setting)
    obstacles = around_obstacles(setting)
    draw(via, obstacles, runs, setting.picture)


if __name__ == "__main__":
    main()
