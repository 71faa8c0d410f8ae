"""A training step inside of other libraries: taylortorch's integration against plain autograd.

``python -m benchmarks.hosts [deepxde] [neurodiffeq] [pina] [--points 1000] [--width 50]
[--rounds 9] [--cpu-time]`` prints a Markdown table of ratios. The problems are the hosts' own
examples, as in ``tests/integrations``; each step is the host's, optimizer included. The two take
turns, and medians are compared. ``--cpu-time`` counts this process's CPU time, for a machine that
does other things as well.

Needs the extra ``integrations``.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch

HOSTS = ("deepxde", "neurodiffeq", "pina")
Step = Callable[[], Any]


def deepxde_step(problem: Any, points: int, width: int) -> Step:
    """A step of the optimizer of ``Model.train``."""
    model = problem(points=points, width=width)
    model.train(iterations=1, display_every=10**6, verbose=0)
    state = model.train_state
    return lambda: model.train_step(state.X_train, state.y_train, state.train_aux_vars)


def neurodiffeq_step(problem: Any, points: int, width: int) -> Step:
    """An epoch of training, of one batch, without validation."""
    torch.manual_seed(0)
    return problem(points, width).run_train_epoch


def pina_step(problem: Any, points: int, width: int) -> Step:
    """The residuals of all conditions with an equation, the backward pass and the optimizer."""
    pina = importlib.import_module("pina")
    torch.manual_seed(0)
    # the grid has as many points along each axis
    solver = problem(round(points**0.5), width)
    optimizer = torch.optim.Adam(solver.parameters(), lr=1e-3)
    domains = solver.problem.discretised_domains
    conditions = [
        pina.Condition(input=domains[condition.domain], equation=condition.equation)
        for condition in solver.problem.conditions.values()
        if hasattr(condition, "domain")
    ]

    def step() -> None:
        optimizer.zero_grad()
        residuals = [c.evaluate({"input": c.input.clone()}, solver) for c in conditions]
        sum(r.as_subclass(torch.Tensor).square().mean() for r in residuals).backward()
        optimizer.step()

    return step


STEPS = {"deepxde": deepxde_step, "neurodiffeq": neurodiffeq_step, "pina": pina_step}


def measured(host: str, problem: Any, args: argparse.Namespace) -> tuple[float, float]:
    """The median seconds of a step: with plain autograd, and with the integration on."""
    integration = importlib.import_module(f"taylortorch.integrations.{host}")
    clock = time.process_time if args.cpu_time else time.perf_counter
    steps = [STEPS[host](problem, args.points, args.width) for _ in range(2)]
    times: list[list[float]] = [[], []]
    for turn in range(args.rounds + 1):
        for which, step in enumerate(steps):
            if which:
                integration.enable()
            # after enable() the first call learns what is asked for, the second is on its own
            step()
            step()
            start = clock()
            step()
            if turn:
                times[which].append(clock() - start)
            integration.disable()
    return statistics.median(times[0]), statistics.median(times[1])


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What the hosts print and warn is not part of the table."""
    nowhere = io.StringIO()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        warnings.simplefilter("ignore")
        yield


def main() -> None:
    """Measure, and print a row as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("hosts", nargs="*", default=HOSTS)
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--width", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--cpu-time", action="store_true")
    args = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    print("| host | problem | autograd, ms | taylortorch, ms | ratio |")
    print("|---|---|---|---|---|")
    for host in args.hosts:
        with quiet():
            problems = importlib.import_module(f"tests.integrations.{host}_problems").PROBLEMS
        for problem in problems:
            with quiet():
                plain, taylor = measured(host, problem, args)
            print(
                f"| {host} | {problem.__name__} | {plain * 1e3:.1f} | {taylor * 1e3:.1f} "
                f"| {taylor / plain:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
