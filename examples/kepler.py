"""Kepler's problem by Taylor series: any order, and steps as long as the series converge.

A planet on an ellipse of eccentricity 0.6, r'' = -r / |r|^3, with period 2 pi. Four questions:

1. How accurate is it? tt.odeint_taylor keeps the energy to rounding; the place is compared with the
   solution of Kepler's equation. A progress bar follows the integration.
2. How long may a step be? The series converges as far as the nearest singularity of the solution,
   which is at a complex time: 2 pi k +- i (arccosh(1/e) - sqrt(1 - e^2)). The estimate of
   tt.radius_of_convergence finds it from the coefficients alone, and the steps that the integrator
   takes follow it along the orbit: short at the perihelion, long at the aphelion.
3. Which order pays? Error against time, for several orders and for the classical method of Runge
   and Kutta in plain torch. For few digits they take about the same time: a step of Runge-Kutta is
   four calls of f. From ten digits on the high orders are faster, the more so the more digits.
4. What if the coefficients were computed by nested autograd? The derivative of order k of the
   solution is that of order k - 1, differentiated along f: torch.func.jvp, nested k deep. It gives
   the same numbers, at a cost that grows exponentially with k; the recurrences of the series take
   k^2 / 2 multiplications for each one in f.

The right-hand side is ordinary torch code:

    def gravity(t, state):
        place, velocity = state[:2], state[2:]
        return torch.cat([velocity, -place / (place**2).sum() ** 1.5])

    states, solution = tt.odeint_taylor(gravity, start, times, order=20, dense_output=True)

    python examples/kepler.py            half a minute
    python examples/kepler.py --quick    a few seconds: one orbit, low orders
    python examples/kepler.py --full     a hundred orbits, higher orders
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import _frame as frame
import matplotlib.pyplot as plt
import torch
from matplotlib import lines as mlines
from tqdm import tqdm

import taylortorch as tt

torch.set_default_dtype(torch.float64)

ECCENTRICITY = 0.6
PERIOD = 2 * math.pi
START = torch.tensor([1 - ECCENTRICITY, 0, 0, math.sqrt((1 + ECCENTRICITY) / (1 - ECCENTRICITY))])
SINGULARITY = math.acosh(1 / ECCENTRICITY) - math.sqrt(1 - ECCENTRICITY**2)


def gravity(t: Any, state: torch.Tensor) -> torch.Tensor:
    place, velocity = state[:2], state[2:]
    return torch.cat([velocity, -place / (place**2).sum() ** 1.5])


# --- what is known exactly ----------------------------------------------------------------------


def energy(states: torch.Tensor) -> torch.Tensor:
    place, velocity = states[..., :2], states[..., 2:]
    return (velocity**2).sum(-1) / 2 - 1 / place.norm(dim=-1)


def energy_error(states: torch.Tensor) -> float:
    return (energy(states) - energy(START)).abs().max().item()


def exact_place(t: torch.Tensor) -> torch.Tensor:
    """By Kepler's equation t = E - e sin E, solved for E by Newton's method."""
    e = ECCENTRICITY
    angle = t + e * torch.sin(t)
    for _ in range(50):
        angle = angle - (angle - e * torch.sin(angle) - t) / (1 - e * torch.cos(angle))
    return torch.stack([torch.cos(angle) - e, math.sqrt(1 - e**2) * torch.sin(angle)], -1)


def exact_radius(t: torch.Tensor) -> torch.Tensor:
    """The distance from t to the nearest singularity: those of the nearest perihelion."""
    return torch.hypot(t - PERIOD * torch.round(t / PERIOD), torch.tensor(SINGULARITY))


# --- 1 and 2: accuracy and steps ----------------------------------------------------------------


class Orbit(NamedTuple):
    solution: tt.TaylorSolution
    starts: torch.Tensor  # of the steps
    lengths: torch.Tensor
    radii: torch.Tensor  # as estimated from the coefficients
    times: torch.Tensor
    error: torch.Tensor  # of the place, at the times


def integrate(orbits: int, order: int) -> Orbit:
    end = orbits * PERIOD
    times = torch.tensor([0.0, end])
    begin, steps = time.perf_counter(), 0
    form = "   {desc} {bar:16} {percentage:3.0f} %, {elapsed} + {remaining} left{postfix}"
    with tqdm(total=end, bar_format=form, file=sys.stdout, mininterval=0.2, desc="orbit") as bar:

        def advance(t: float, h: float) -> None:
            nonlocal steps
            steps += 1
            speed = steps / (time.perf_counter() - begin)
            bar.set_postfix_str(
                f"t {t:.2f}, step {h:.3f}, radius {exact_radius(torch.tensor(t)):.3f}, "
                f"steps/s {speed:.0f}",
                refresh=False,
            )
            bar.update(h)

        _, solution = tt.odeint_taylor(
            gravity,
            START,
            times,
            order=order,
            rtol=1e-16,
            atol=1e-16,
            dense_output=True,
            callback=advance,
        )
    nodes = torch.tensor(solution.nodes)
    radii = torch.stack([tt.radius_of_convergence(piece).min() for piece in solution.pieces])
    times = torch.linspace(0, end, 400 * orbits + 1)
    error = (solution(times)[:, :2] - exact_place(times)).norm(dim=1)
    print(
        f"\n1. {orbits} orbits in {steps} steps of order {order}: energy kept to "
        f"{energy_error(solution(times)):.1e}, place to {error.max():.1e}"
    )
    starts, lengths = nodes[:-1], nodes.diff()
    apart = (radii / exact_radius(starts) - 1).abs()
    # farther out those of two perihelia are nearly as close: for that the order is too low
    clear = (torch.cos(starts) > 0).nonzero().flatten()
    print(
        f"2. Steps of {lengths.min():.3f} to {lengths.max():.3f}, "
        f"{(lengths / exact_radius(starts)).median():.2f} of the radius of convergence; "
        f"the radius estimated to {apart[clear].max():.1%} in the half of the period near the sun"
    )
    # rounding: half a unit in the last place for every step, and the place drifts with the square
    assert energy_error(solution(times)) < 1e-15 * (10 + steps**0.5), "energy"
    assert error.max() < 1e-13 * (5 + orbits**2), "place"
    assert apart[clear].max() < 0.02, "radius of convergence"
    return Orbit(solution, starts, lengths, radii, times, error)


# --- 3: which order pays ------------------------------------------------------------------------


def runge_kutta(count: int) -> torch.Tensor:
    h, y = PERIOD / count, START
    for _ in range(count):
        a = gravity(0, y)
        b = gravity(0, y + h / 2 * a)
        c = gravity(0, y + h / 2 * b)
        d = gravity(0, y + h * c)
        y = y + h / 6 * (a + 2 * b + 2 * c + d)
    return y


def taylor(order: int, tolerance: float) -> torch.Tensor:
    times = torch.tensor([0.0, PERIOD])
    states: torch.Tensor = tt.odeint_taylor(
        gravity, START, times, order=order, rtol=tolerance, atol=tolerance
    )
    return states[-1]


def work(method: Callable[..., torch.Tensor], settings: list[tuple]) -> list[tuple[float, float]]:
    """Seconds and error of the place after one orbit, for each setting: the fastest of three."""
    found = []
    for arguments in settings:
        seconds = []
        for _ in range(3):
            begin = time.perf_counter()
            state = method(*arguments)
            seconds.append(time.perf_counter() - begin)
        error = (state[:2] - START[:2]).norm().item()
        found.append((min(seconds), max(error, 1e-16)))
    return found


def which_order(orders: list[int], most: int) -> dict[str, list[tuple[float, float]]]:
    taylor(8, 1e-3)  # warm up
    counts = [n for n in (200, 500, 1_000, 2_000, 5_000, 10_000, 20_000) if n <= most]
    curves = {"Runge-Kutta 4": work(runge_kutta, [(n,) for n in counts])}
    for order in orders:
        lowest = -15 if order >= 12 else -2.0 - order
        tolerances = [10.0**p for p in range(-3, int(lowest) - 1, -3)]
        curves[f"order {order}"] = work(taylor, [(order, tol) for tol in tolerances])
    print("3. One orbit: seconds and error of the place, for the tightest setting")
    for name, points in curves.items():
        print(f"   {name:<14}{points[-1][0]:>8.3f} s{points[-1][1]:>10.1e}")
    return curves


# --- 4: the coefficients by nested autograd -----------------------------------------------------


def by_nested_jvp(order: int) -> list[torch.Tensor]:
    """Taylor coefficients of the solution: each derivative is that of the last one along f."""

    def along(g: Callable) -> Callable:
        return lambda y: torch.func.jvp(g, (y,), (gravity(0, y),))[1]

    derivatives: list[Callable] = [lambda y: y]
    for _ in range(order):
        derivatives.append(along(derivatives[-1]))
    return [g(START) / math.factorial(k) for k, g in enumerate(derivatives)]


def by_series(order: int) -> list[torch.Tensor]:
    # a single step, whatever its error: the coefficients are exact
    _, solution = tt.odeint_taylor(
        gravity, START, torch.tensor([0.0, 1e-3]), order=order, rtol=1, atol=1, dense_output=True
    )
    return list(solution.pieces[0].coeffs)


def compare(orders: list[int], rounds: int) -> dict[str, list[float]]:
    ways = {frame.TAYLOR: by_series, frame.NESTED: by_nested_jvp}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    print("4. All coefficients of one step by nested jvp, and by the series")
    for order in orders:
        for a, b in zip(by_series(order), by_nested_jvp(order), strict=True):
            assert torch.allclose(a, b, rtol=1e-10, atol=1e-10), f"order {order} disagrees"
        here = frame.side_by_side({name: partial(way, order) for name, way in ways.items()}, rounds)
        for name, each in here.items():
            seconds[name].append(each)
        print(f"   order {order}: the same to 1e-10; {frame.verdict(here)}")
    print()
    return seconds


# --- the picture --------------------------------------------------------------------------------


def draw(
    orbit: Orbit,
    curves: dict[str, list[tuple[float, float]]],
    orders: list[int],
    seconds: dict[str, list[float]],
    picture: Path,
) -> None:
    figure = frame.figure(13.5, 8.2)
    top, bottom = figure.subfigures(2, 1, hspace=0.03)
    ellipse, steps = top.subplots(1, 2, width_ratios=(1, 1.25))
    errors, work_panel, nested = bottom.subplots(1, 3)
    draw_ellipse(ellipse, orbit)
    draw_steps(steps, orbit)
    draw_error(errors, orbit)
    draw_work(work_panel, curves)
    draw_nested(nested, orders, seconds)
    frame.save(figure, picture)


def draw_ellipse(axes, orbit: Orbit) -> None:
    around = orbit.times[orbit.times <= PERIOD]
    exact = exact_place(around)
    first = orbit.starts < PERIOD
    nodes = exact_place(orbit.starts[first])
    axes.plot(*exact.T, color="#cccccc", linewidth=5, label="exact ellipse", zorder=0)
    found = orbit.solution(around)
    axes.plot(*found[:, :2].T, color=frame.COLOURS[frame.TAYLOR], linewidth=1.5, label="Taylor")
    axes.plot(*nodes.T, "o", color=frame.COLOURS[frame.TAYLOR], markersize=5, label="steps")
    axes.plot(0, 0, "*", color="#f0a030", markersize=20, zorder=3)
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.legend(frameon=False, loc="center", bbox_to_anchor=(0.42, 0.5))
    axes.set_title(f"{len(nodes)} steps around the sun")


def draw_steps(axes, orbit: Orbit) -> None:
    """Step length, estimated and exact radius of convergence, over two orbits at most."""
    end = min(2 * PERIOD, orbit.times[-1].item())
    shown = orbit.starts < end
    t = orbit.times[orbit.times <= end]
    taylor = frame.COLOURS[frame.TAYLOR]
    axes.plot(t, exact_radius(t), color="#cccccc", linewidth=5)
    axes.plot(orbit.starts[shown], orbit.radii[shown], "x", color="#e4704f", markersize=6)
    axes.plot(orbit.starts[shown], orbit.lengths[shown], "o", color=taylor, markersize=5)
    share = (orbit.lengths / exact_radius(orbit.starts)).median().item()
    axes.plot(t, share * exact_radius(t), color=taylor, linewidth=1, alpha=0.6)
    axes.set_yscale("log")
    axes.minorticks_off()
    ticks = (0.05, 0.1, 0.2, 0.5, 1, 2)
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_ylim(0.04, 6.5)
    axes.set_xlim(0, end)
    marks = torch.arange(0, end / PERIOD + 0.4, 0.5).tolist()
    axes.set_xticks([mark * PERIOD for mark in marks], [f"{mark:g}" for mark in marks])
    axes.set_xlabel("time, in orbits")
    axes.grid(True, color="#eeeeee")
    axes.set_title("a step is as long as the series allows")
    handles = [
        mlines.Line2D([], [], color="#cccccc", linewidth=5),
        mlines.Line2D([], [], color="#e4704f", marker="x", linestyle="none"),
        mlines.Line2D([], [], color=taylor, marker="o", markersize=5, linewidth=1),
    ]
    labels = (
        "radius of convergence, exact",
        "estimated from the coefficients",
        f"step taken; line: {share:.2f} radii",
    )
    axes.legend(
        handles, labels, frameon=False, loc="upper center", ncols=3, fontsize=9, columnspacing=1.2
    )


def draw_error(axes, orbit: Orbit) -> None:
    found = orbit.solution(orbit.times)
    drift = (energy(found) - energy(START)).abs()
    t = orbit.times / PERIOD
    # what is exactly 0 has no place on this axis
    axes.plot(t, orbit.error.clamp_min(1e-17), color="#4c9be8", linewidth=1, label="place")
    axes.plot(t, drift.clamp_min(1e-17), ".", color="#f0a030", markersize=2, label="energy")
    axes.set_yscale("log")
    axes.set_ylim(1e-17, 1e-10)
    axes.set_xlim(0, t[-1])
    axes.set_xlabel("time, in orbits")
    axes.set_title("error of the solution")
    axes.grid(True, color="#eeeeee")
    axes.legend(frameon=False, loc="upper left", ncols=2, markerscale=4)


def draw_work(axes, curves: dict[str, list[tuple[float, float]]]) -> None:
    colours = plt.get_cmap("viridis")(torch.linspace(0.8, 0.15, len(curves) - 1).numpy())
    for n, (name, points) in enumerate(curves.items()):
        colour = "#e4704f" if n == 0 else colours[n - 1]
        axes.plot(*zip(*points, strict=True), "o-", color=colour, markersize=4, label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("seconds for one orbit")
    axes.set_title("error of the place against time")
    axes.grid(True, color="#eeeeee")
    axes.legend(frameon=False, fontsize=9.5, loc="upper right")
    axes.minorticks_off()


def draw_nested(axes, orders: list[int], seconds: dict[str, list[float]]) -> None:
    for name, values in seconds.items():
        axes.plot(orders, [1e3 * v for v in values], "o-", color=frame.COLOURS[name], linewidth=2)
    axes.set_yscale("log")
    ratio = seconds[frame.NESTED][-1] / seconds[frame.TAYLOR][-1]
    axes.text(
        0.03,
        0.97,
        f"nested jvp\norder {orders[-1]}: {ratio:.0f}x the time of Taylor",
        transform=axes.transAxes,
        va="top",
        color=frame.COLOURS[frame.NESTED],
    )
    axes.text(
        0.97,
        0.05,
        "one step of the series",
        transform=axes.transAxes,
        ha="right",
        color=frame.COLOURS[frame.TAYLOR],
        weight="bold",
    )
    low, high = axes.get_ylim()
    axes.set_ylim(low / 3, high * 8)
    axes.set_xticks(orders)
    axes.set_xlabel("order")
    axes.set_title("milliseconds for all coefficients")
    axes.grid(True, color="#eeeeee")
    axes.minorticks_off()


def main() -> None:
    setting = frame.start(
        __doc__,
        __file__,
        quick={"orbits": 1, "order": 20, "orders": [8, 16], "most": 1_000, "nested": 4},
        default={"orbits": 10, "order": 24, "orders": [4, 8, 12, 20], "most": 10_000, "nested": 8},
        full={
            "orbits": 100,
            "order": 24,
            "orders": [4, 8, 12, 16, 20, 28],
            "most": 20_000,
            "nested": 10,
        },
    )
    orbit = integrate(setting.orbits, setting.order)
    curves = which_order(setting.orders, setting.most)
    nested_orders = list(range(2, setting.nested + 1))
    seconds = compare(nested_orders, rounds=5)
    draw(orbit, curves, nested_orders, seconds, setting.picture)


if __name__ == "__main__":
    main()
