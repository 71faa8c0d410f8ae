"""What the example scripts share: arguments, training in turn, the look of the pictures.

Nothing here differentiates anything: each example says in its own file how it does that. The parts:

    start       reads --quick, --full, --threads, --out and picks the numbers of that setting
    train       trains copies of one model, one copy per way of computing the same loss, step by
                step in turn, so that a busy moment of the machine hits all of them alike
    summarise   prints what came out and asserts that the ways took the same path
    side_by_side    times what is not training
    figure, field, loss_over_time, save     the picture
"""

from __future__ import annotations

import argparse
import copy
import itertools
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as of_each
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import matplotlib
import torch
from matplotlib.ticker import MaxNLocator
from torch import nn
from tqdm import tqdm

matplotlib.use("Agg")
import matplotlib.pyplot as plt

TAYLOR, NESTED = "Taylor", "nested autograd"
COLOURS = {TAYLOR: "#1f9e89", NESTED: "#8a7cc9"}
# of text in a panel, in parts of its height
LINE = 0.075
OTHER_COLOURS = ("#e4704f", "#4c9be8", "#f0a030")
Loss = Callable[..., torch.Tensor]


# --- arguments ----------------------------------------------------------------------------------


def start(doc: str | None, file: str, *, quick: dict, default: dict, full: dict) -> SimpleNamespace:
    """The numbers of the chosen setting, as attributes, with ``level`` and ``picture``.

    The picture of the default setting is ``<script>.png`` beside the script or in ``--out``; the
    other settings add their name, so that they never replace it.
    """
    lines = (doc or "").strip().splitlines()
    parser = argparse.ArgumentParser(description=lines[0] if lines else None)
    how_long = parser.add_mutually_exclusive_group()
    how_long.add_argument("--quick", action="store_true", help="a few seconds, for CI")
    how_long.add_argument("--full", action="store_true", help="the real size")
    parser.add_argument("--threads", type=int, help="threads of torch; 1 is best on a busy machine")
    parser.add_argument("--out", type=Path, help="folder for the picture (default: this one)")
    arguments = parser.parse_args()
    level = "quick" if arguments.quick else "full" if arguments.full else "default"
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    script = Path(file)
    name = script.stem if level == "default" else f"{script.stem}-{level}"
    numbers = {"quick": quick, "default": default, "full": full}[level]
    picture = (arguments.out or script.parent) / f"{name}.png"
    print(f"{lines[0] if lines else script.stem}")
    print(f"   {level} setting, torch {torch.__version__}, threads: {torch.get_num_threads()}\n")
    return SimpleNamespace(level=level, picture=picture, **numbers)


# --- training -----------------------------------------------------------------------------------


class Stage(NamedTuple):
    """An optimiser and how often it steps."""

    name: str
    steps: int
    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
    schedule: Callable[[torch.optim.Optimizer], Any] | None = None
    # gradients in a step, roughly: for the time left
    gradients: int = 1


def adam(steps: int, lr: float = 1e-3, last_lr: float | None = None) -> Stage:
    """Adam; the rate falls from ``lr`` to ``last_lr`` along a half cosine."""
    last = lr / 20 if last_lr is None else last_lr
    return Stage(
        "Adam",
        steps,
        lambda parameters: torch.optim.Adam(parameters, lr=lr),
        lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, last),
    )


def lbfgs(steps: int, iterations: int = 20, history: int = 50) -> Stage:
    """L-BFGS; each step makes up to ``iterations`` iterations with a line search."""
    return Stage(
        "L-BFGS",
        steps,
        lambda parameters: torch.optim.LBFGS(
            parameters,
            max_iter=iterations,
            history_size=history,
            tolerance_grad=0,
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        ),
        gradients=iterations,
    )


@dataclass
class Run:
    """One way of computing the loss, trained: entry n of the lists belongs to optimiser step n."""

    model: nn.Module
    loss: Loss
    losses: list[float] = of_each(default_factory=list)  # before the step
    seconds: list[float] = of_each(default_factory=list)  # spent in the step
    gradients: list[int] = of_each(default_factory=list)  # evaluated in the step
    errors: list[tuple[float, float]] = of_each(default_factory=list)  # (after seconds, error)

    @property
    def total_seconds(self) -> float:
        return sum(self.seconds)

    @property
    def per_second(self) -> float:
        """Gradients per second."""
        return sum(self.gradients) / max(self.total_seconds, 1e-9)

    def evaluate(self, points: Any) -> torch.Tensor:
        loss = self.loss(self.model) if points is None else self.loss(self.model, points)
        loss.backward()
        return loss

    def step(self, optimizer: torch.optim.Optimizer, points: Any) -> None:
        count = 0

        def closure() -> torch.Tensor:
            nonlocal count
            count += 1
            optimizer.zero_grad()
            return self.evaluate(points)

        begin = time.perf_counter()
        loss = optimizer.step(closure)  # type: ignore[arg-type]
        self.seconds.append(time.perf_counter() - begin)
        self.losses.append(loss.item())
        self.gradients.append(count)
        assert self.losses[-1] < float("inf"), "the loss is not finite any more"


def train(
    model: nn.Module,
    ways: Mapping[str, Loss],
    stages: Sequence[Stage],
    error: Callable[[nn.Module], float],
    *,
    points: Callable[[int], Any] | None = None,
    stop_after: Mapping[str, int] | None = None,
    checks: int = 60,
) -> dict[str, Run]:
    """Train copies of ``model``, one per way, from the same weights on the same points in turn.

    Args:
        ways: the loss of a model, ``loss(model)`` or ``loss(model, points)``, by the name of the
            way; the first one trains ``model`` itself.
        stages: the optimisers, one after the other.
        error: what the progress line shows and the picture draws; its time does not count.
        points: drawn anew for step n and given to all ways; without it the loss has its own.
        stop_after: how many optimiser steps a way takes part in, where all would take too long.
        checks: how often the error is looked at in the whole run.
    """
    runs = {
        name: Run(model if n == 0 else copy.deepcopy(model), loss)
        for n, (name, loss) in enumerate(ways.items())
    }
    first = next(iter(runs.values()))
    total, done = sum(stage.steps for stage in stages), 0
    work = sum(stage.steps * stage.gradients for stage in stages)
    check_every = max(1, total // checks)
    for run in runs.values():
        run.evaluate(points(0) if points is not None else None)  # warm up
        run.errors.append((0.0, error(run.model)))
    form = "   {desc} {bar:16} {percentage:3.0f} %, {elapsed} + {remaining} left{postfix}"
    with tqdm(total=work, bar_format=form, file=sys.stdout, mininterval=0.5) as progress:
        for stage in stages:
            progress.set_description_str(f"{stage.name:<6}")
            optimizers = {
                name: stage.optimizer(run.model.parameters()) for name, run in runs.items()
            }
            schedules = [stage.schedule(o) for o in optimizers.values() if stage.schedule]
            for _ in range(stage.steps):
                drawn = points(done) if points is not None else None
                active = {
                    name: run
                    for name, run in runs.items()
                    if done < (stop_after or {}).get(name, total)
                }
                # forwards and backwards in turn, so that none profits from warm caches
                order = list(active) if done % 2 == 0 else list(active)[::-1]
                for name in order:
                    active[name].step(optimizers[name], drawn)
                for schedule in schedules:
                    schedule.step()
                done += 1
                if done % check_every == 0 or done == total:
                    for run in active.values():
                        run.errors.append((run.total_seconds, error(run.model)))
                speeds = ", ".join(f"{name} {run.per_second:,.0f}" for name, run in runs.items())
                progress.set_postfix_str(
                    f"loss {first.losses[-1]:.1e}, error {first.errors[-1][1]:.1e}, "
                    f"gradients/s: {speeds}",
                    refresh=False,
                )
                progress.update(stage.gradients)
    print()
    return runs


def joined(runs: Sequence[Mapping[str, Run]]) -> dict[str, Run]:
    """Several trainings, one after the other, as one."""
    result = {}
    for name, last in runs[-1].items():
        whole = Run(last.model, last.loss)
        for run in (part[name] for part in runs):
            spent = whole.total_seconds
            whole.errors += [(spent + seconds, error) for seconds, error in run.errors]
            whole.losses += run.losses
            whole.seconds += run.seconds
            whole.gradients += run.gradients
        result[name] = whole
    return result


def time_ratio(run: Run, other: Run) -> float:
    """How many times longer ``other`` takes per gradient: the median over the steps."""
    return statistics.median(
        (b / n) / (a / m)
        for a, m, b, n in zip(
            run.seconds, run.gradients, other.seconds, other.gradients, strict=False
        )
    )


def side_by_side(ways: Mapping[str, Callable[[], Any]], rounds: int = 15) -> dict[str, float]:
    """The median seconds of a call of each way, A B C A B C ..., for what is not training."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()  # warm up
    for _ in range(rounds):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(each) for name, each in seconds.items()}


def verdict(seconds: Mapping[str, float]) -> str:
    """Which of two ways is faster, in words, whichever it is."""
    (first, a), (other, b) = seconds.items()
    if b >= a:
        return f"{other} takes {b / a:.1f} times as long as {first}"
    return f"{first} is not faster here: it takes {a / b:.1f} times as long as {other}"


def summarise(
    runs: Mapping[str, Run],
    claim: float,
    *,
    same: Sequence[str] = (TAYLOR, NESTED),
    agree_for: int = 100,
    tolerance: float = 1e-6,
) -> None:
    """Print what came out; assert the accuracy and that the ways in ``same`` went the same path.

    Two exact ways differ in rounding only, which training amplifies: the losses are compared over
    the first ``agree_for`` optimiser steps, to ``tolerance`` relatively.
    """
    names = list(runs)
    first = runs[names[0]]
    width = max(map(len, names))
    heads = ("gradients", "seconds", "per second", "last loss", "error")
    print(f"   {'':<{width}}" + "".join(f"{head:>12}" for head in heads))
    for name, run in runs.items():
        print(
            f"   {name:<{width}}{sum(run.gradients):>12,}{run.total_seconds:>12.1f}"
            f"{run.per_second:>12.1f}{run.losses[-1]:>12.2e}{run.errors[-1][1]:>12.2e}"
        )
    for name in names[1:]:
        ratio = time_ratio(first, runs[name])
        print(f"   A gradient by {name} takes {ratio:.1f} times that by {names[0]}.")
    compared = [runs[name].losses[:agree_for] for name in same if name in runs]
    if len(compared) > 1:
        steps = min(map(len, compared))
        apart = max(
            abs(a - losses[n]) / abs(a)
            for losses in compared[1:]
            for n, a in enumerate(compared[0][:steps])
        )
        print(f"   The losses of the first {steps} steps are the same to {apart:.1e}.")
        assert apart < tolerance, f"the loss curves differ by {apart:.1e} within {steps} steps"
    error = first.errors[-1][1]
    print(f"   Error of {names[0]}: {error:.2e}; claimed: below {claim:.2g}.\n")
    assert error < claim, f"error {error:.2e}, claimed {claim:.2g}"


def relative_l2(a: torch.Tensor, b: torch.Tensor) -> float:
    """The error of ``a``, relative to ``b``, in the L2 norm."""
    return float((a.detach() - b).norm() / b.norm())


# --- the picture --------------------------------------------------------------------------------


def figure(width: float = 13, height: float = 7) -> Any:
    plt.rcParams.update(
        {
            "font.size": 11,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": "#888888",
            "axes.titlesize": 12.5,
            "axes.titlepad": 10,
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "image.cmap": "viridis",
        }
    )
    return plt.figure(figsize=(width, height), layout="constrained")


def field(
    axes: Any,
    x: torch.Tensor,
    y: torch.Tensor,
    values: torch.Tensor,
    title: str,
    *,
    cmap: str = "viridis",
    limits: tuple[float, float] | None = None,
    bar: bool = True,
) -> Any:
    """``values[i, j]`` at ``(x[i], y[j])`` as colours."""
    low, high = limits or (None, None)
    mesh = axes.pcolormesh(
        x, y, values.detach().T, cmap=cmap, vmin=low, vmax=high, shading="gouraud", rasterized=True
    )
    axes.set_title(title)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if bar:
        colourbar = axes.figure.colorbar(mesh, ax=axes, pad=0.02, aspect=30)
        colourbar.outline.set_visible(False)
        colourbar.locator = MaxNLocator(5)
        colourbar.update_ticks()
    return mesh


def colours(names: Iterable[str]) -> dict[str, str]:
    others = iter(OTHER_COLOURS)
    return {name: COLOURS.get(name) or next(others) for name in names}


def loss_over_time(
    axes: Any, runs: Mapping[str, Run], *, what: str = "loss", title: str | None = None
) -> None:
    """The loss (or ``what="error"``) of every way over the seconds that its own steps took.

    Curves that fall leave the lower left and the upper right corner free: there the labels stand.
    """
    names = list(runs)
    colour = colours(names)
    first = runs[names[0]]
    for name in reversed(names):
        run = runs[name]
        if what == "loss":
            before = [0.0, *itertools.accumulate(run.seconds)][:-1]
            axes.plot(before, run.losses, color=colour[name], linewidth=2)
        else:
            axes.plot(*zip(*run.errors, strict=True), color=colour[name], linewidth=2)
    axes.set_yscale("log")
    lines = 0
    for n, name in enumerate(names):
        run = runs[name]
        text = f"{name}: {run.total_seconds:.3g} s"
        if n:
            ratio = time_ratio(first, run)
            text += f", {ratio:.1f}x" if ratio < 9.95 else f", {ratio:.0f}x"
        if n and len(run.losses) < len(first.losses):
            text += f"\n(stopped after {len(run.losses)} of {len(first.losses)} steps)"
        axes.text(
            0.03 if n == 0 else 0.98,
            0.04 if n == 0 else 0.98 - LINE * lines,
            text,
            transform=axes.transAxes,
            color=colour[name],
            weight="bold" if n == 0 else "normal",
            ha="left" if n == 0 else "right",
            va="bottom" if n == 0 else "top",
        )
        lines += (1 + text.count("\n")) if n else 0
    # room for the labels, in parts of the height
    low, high = map(math.log, axes.get_ylim())
    below, above = 0.1, LINE * lines
    height = (high - low) / (1 - below - above)
    axes.set_ylim(math.exp(low - below * height), math.exp(high + above * height))
    axes.set_xlim(left=0)
    axes.set_xlabel("seconds of training")
    axes.set_title(title or ("training loss" if what == "loss" else "relative error"))
    axes.grid(True, color="#eeeeee")
    axes.minorticks_off()


def save(figure: Any, picture: Path) -> None:
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=110)
    plt.close(figure)
    print(f"   The picture: {picture}")
