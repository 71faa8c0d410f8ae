"""What a single call costs, in two checkouts of the package.

``python -m benchmarks.latency --against PATH [words]`` compares the checkout at PATH, the old one,
with this one, on the workloads whose names have all the words. Small tensors, not compiled: what is
measured is mostly Python, and a change of a hundredth should be seen. So the two take turns in one
run, each in a process of its own, on the same core; turns are short, who goes first alternates, and
CPU time is compared. Where a process happens to lie in memory changes its speed by two hundredths,
so there are many pairs of processes one after the other; the error is estimated from how they
differ.

Only the public interface is used: the internals of the two may differ in everything.
"""

from __future__ import annotations

import argparse
import functools
import gc
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

import taylortorch as tt

ROOT = Path(__file__).resolve().parent.parent
TURN = 2e-3
"""Seconds: a turn repeats a call for so long."""
WIDTH, COORDINATES = 32, 3
ORDERS, BATCHES = (1, 2, 4), {"one sample": 1, "100 samples": 100}

Call = Callable[[], Any]

# --- what is measured ---------------------------------------------------------------------------


def line(x: torch.Tensor, order: int) -> Any:
    """One direction."""
    return tt.TaylorTensor(x, order=order)


def bundle(x: torch.Tensor, order: int) -> Any:
    """The directions of all coordinates."""
    return tt.TaylorTensor(x, directions=torch.eye(COORDINATES).unsqueeze(1), order=order)


def multivariate(x: torch.Tensor, order: int) -> Any:
    """All mixed derivatives."""
    return tt.variables(x, order=order)


STRUCTURES = {f.__name__: f for f in (line, bundle, multivariate)}


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "add": lambda h: h + h,
    "mul": lambda h: h * h,
    "exp": torch.exp,
    "tanh": torch.tanh,
    "linear": nn.Linear(WIDTH, WIDTH),
    "layer_norm": nn.LayerNorm(WIDTH),
}


def single(function: str, structure: str, order: int, batch: int) -> Call:
    """One function of a hidden layer, whose coefficients are all there."""
    f, x = FUNCTIONS[function], STRUCTURES[structure](torch.randn(batch, COORDINATES), order)
    with torch.no_grad():
        h = torch.tanh(nn.Linear(COORDINATES, WIDTH)(x))

    def call() -> None:
        with torch.no_grad():
            f(h)

    return call


def network(training: bool, structure: str, order: int, batch: int) -> Call:
    """A tanh network from the points to the derivatives, and back to its parameters."""
    widths = itertools.pairwise((COORDINATES, WIDTH, WIDTH, WIDTH, 1))
    layers = [part for sizes in widths for part in (nn.Linear(*sizes), nn.Tanh())]
    model, x = nn.Sequential(*layers[:-1]), torch.randn(batch, COORDINATES)

    def call() -> None:
        with torch.set_grad_enabled(training):
            last = model(STRUCTURES[structure](x, order)).coeffs[-1]
            if training:
                last.square().mean().backward()

    return call


def workloads() -> dict[str, Callable[[], Call]]:
    """By name, what makes a call."""
    found: dict[str, Callable[[], Call]] = {}
    for structure, order, batch in itertools.product(STRUCTURES, ORDERS, BATCHES):
        where, size = f"{structure}, order {order}, {batch}", (structure, order, BATCHES[batch])
        for function in FUNCTIONS:
            found[f"{function}: {where}"] = functools.partial(single, function, *size)
        for training, name in enumerate(("forward", "training")):
            found[f"network {name}: {where}"] = functools.partial(network, bool(training), *size)
    return found


# --- a checkout ---------------------------------------------------------------------------------


def serve() -> None:
    """Answer each ``[workload, repeats]`` with the seconds of CPU and of the clock for one call."""
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [max(os.sched_getaffinity(0))])
    print(json.dumps(str(Path(tt.__file__).resolve().parent.parent)), flush=True)
    makers, name, call = workloads(), "", None
    for request in sys.stdin:
        wanted, repeats = json.loads(request)
        if call is None or wanted != name:
            torch.manual_seed(0)
            name, call = wanted, makers[wanted]()
            for _ in range(10):
                call()
            # what was imported and made so far is not looked through again
            gc.collect()
            gc.freeze()
        gc.collect()
        gc.disable()
        call()
        cpu, clock = time.process_time(), time.perf_counter()
        for _ in range(repeats):
            call()
        cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
        gc.enable()
        print(json.dumps([cpu / repeats, clock / repeats]), flush=True)


class Checkout:
    """A process that runs the workloads of this file on the package of that checkout."""

    def __init__(self, path: Path) -> None:
        self.path = path
        env, pipe = os.environ | {"PYTHONPATH": str(path), "PYTHONHASHSEED": "0"}, subprocess.PIPE
        # -P: the folder of this file is not where modules are looked for
        command = [sys.executable, "-P", __file__, "--serve"]
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=env)

    def __enter__(self) -> Checkout:
        taken = Path(self._answer())
        if taken != self.path:
            self.process.communicate()
            raise RuntimeError(f"asked for the package in {self.path}, got the one in {taken}")
        return self

    def __exit__(self, *error: object) -> None:
        self.process.communicate()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the process for {self.path} has ended; it says why above")
        return json.loads(answer)

    def turn(self, workload: str, repeats: int) -> tuple[float, float]:
        """Seconds of CPU and of the clock for one call."""
        print(json.dumps([workload, repeats]), file=self.process.stdin, flush=True)
        return tuple(self._answer())


# --- the comparison -----------------------------------------------------------------------------


@dataclass
class Times:
    """Seconds of one call, old and new; for each pair of processes one list of rounds."""

    cpu: list[list[tuple[float, float]]] = field(default_factory=list)
    clock: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """New over old: of each pair the median."""
        return [statistics.median(new / old for old, new in rounds) for rounds in self.cpu]

    @property
    def error(self) -> float:
        """The standard error of the mean of these."""
        return statistics.stdev(self.ratios) / len(self.cpu) ** 0.5 if len(self.cpu) > 1 else 0.0

    def row(self, name: str) -> str:
        """A line of the table."""
        old, new = map(min, zip(*itertools.chain(*self.cpu), strict=True))
        cells = f"{1e6 * old:.1f} | {1e6 * new:.1f} | {new / old:.3f}"
        return f"| {name} | {cells} | {statistics.mean(self.ratios):.3f} ± {self.error:.3f} |"


def compare(checkouts: Sequence[Checkout], workload: str, rounds: int, times: Times) -> None:
    """Some rounds of a workload; the two take turns, and take turns in going first."""
    each = min(checkout.turn(workload, 5)[0] for checkout in checkouts)
    repeats = max(1, round(TURN / each))
    times.cpu.append([])
    for n in range(rounds):
        order = (0, 1) if n % 2 else (1, 0)
        found = {which: checkouts[which].turn(workload, repeats) for which in order}
        times.cpu[-1].append((found[0][0], found[1][0]))
        times.clock += [clock / cpu for cpu, clock in found.values()]


def main() -> None:
    """Compare, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__)
    parser.add_argument("words", nargs="*", help="parts of the names of workloads")
    parser.add_argument("--against", type=Path, help="the root of the old checkout")
    parser.add_argument("--pairs", type=int, default=8, help="of processes, one by one")
    parser.add_argument("--rounds", type=int, default=40, help="by each pair")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        return serve()
    if arguments.against is None:
        parser.error("--against: which checkout?")
    measured = {name: Times() for name in workloads() if all(w in name for w in arguments.words)}
    for _ in range(arguments.pairs):
        # both processes start before the first is waited for
        pair = Checkout(arguments.against.resolve()), Checkout(ROOT)
        with pair[0], pair[1]:
            for name, times in measured.items():
                compare(pair, name, arguments.rounds, times)
    print("| workload | old, us | new, us | new / old | mean of the medians |")
    print("|---|---|---|---|---|")
    for name, times in measured.items():
        print(times.row(name))
    together = statistics.geometric_mean(itertools.chain(*(t.ratios for t in measured.values())))
    waited = statistics.median(itertools.chain(*(t.clock for t in measured.values())))
    print(f"\nnew / old, all together: {together:.3f}; by the clock a turn took {waited:.2f} times")
    print("its CPU time: more than 1.1 means that the core did other things as well")


if __name__ == "__main__":
    main()
