"""Measuring a problem: all contenders take turns, A B C A B C ..., in each of the rounds."""

from __future__ import annotations

import contextlib
import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from tqdm import tqdm

from .device import Device
from .ways import PLAIN, Problem, Step, Torch, Unavailable

SHORTEST_TURN = 5e-3
"""Seconds: a turn repeats a faster contender."""
LONGEST = 4.0
"""Seconds that the turns of one contender may take together; it then takes part in fewer rounds."""
FEWEST_ROUNDS = 3
TOO_SLOW = 3.0
"""Seconds: a contender whose call takes longer is not asked to do a larger size."""
TOO_SLOW_TO_COMPILE = 60.0
"""Seconds: the same for a contender that takes longer to trace and compile."""
GROWING = {"batch", "order", "D"}
"""What makes a size larger; sizes that differ in anything else are of another kind."""


@dataclass
class Contender:
    """A step on its way through a run, or the reason why there is none."""

    step: Step
    first_call: float
    each: float
    repeats: int
    rounds: int
    times: list[float] = field(default_factory=list)


class Stopped:
    """Which contenders of a workload were too slow at a smaller size of the same kind."""

    def __init__(self) -> None:
        self.where: dict[Any, str] = {}

    def check(self, key: Any) -> None:
        """Raise ``Unavailable`` for those."""
        if key in self.where:
            raise Unavailable("too slow", self.where[key])

    def note(self, key: Any, problem: Problem, contender: Contender) -> None:
        """Remember one that was."""
        if contender.each > TOO_SLOW:
            self.where[key] = f"Stopped after {problem.name}: {contender.each:.1f} s a call."
        elif contender.first_call > TOO_SLOW_TO_COMPILE:
            self.where[key] = (
                f"Stopped after {problem.name}: {contender.first_call:.0f} s to compile."
            )


def measured(
    problem: Problem,
    step: str,
    device: Device,
    rounds: int,
    compiling: bool = True,
    stopped: Stopped | None = None,
    progress: bool = True,
) -> dict[str, dict[str, Any]]:
    """What each contender took: seconds, bytes, and how far its derivatives are off; or a note."""
    problem.set_up(step)
    torch._dynamo.reset()
    stopped = stopped or Stopped()
    kind = tuple(value for key, value in problem.sizes.items() if key not in GROWING)
    results: dict[str, dict[str, Any]] = {}
    running: dict[str, Contender] = {}
    found: dict[str, Any] = {}
    bar = tqdm(problem.ways.items(), leave=False, disable=not progress, file=sys.stderr)
    for name, way in bar:
        bar.set_description(f"{problem.name}, {step}: {name}")
        # JAX contenders are compiled at every size, torch contenders at some
        some = isinstance(way, Torch) and step not in problem.compiled
        if way.compiled and (some or not compiling):
            continue
        try:
            stopped.check((name, kind, step))
            contender = warmed_up(lambda way=way: way.step(problem, step, device), rounds)
            found[name] = contender.step.derivatives()
            results[name] = {"bytes": contender.step.peak(), "first_call": contender.first_call}
            running[name] = contender
            stopped.note((name, kind, step), problem, contender)
        except Unavailable as note:
            results[name] = {"word": note.word, "note": str(note)}
        except Exception as error:
            # a peer that fails is a result; the plain model, the reference and Taylor must not
            if name in (PLAIN, problem.reference) or name.startswith("Taylor"):
                raise
            results[name] = {"word": "cannot", "note": shortened(error)}
    for name, away in deviations(found, problem.reference).items():
        results[name]["deviation"] = away
    take_turns(running, device, rounds, f"{problem.name}, {step}: rounds", progress)
    for name, contender in running.items():
        results[name] |= {
            "median": statistics.median(contender.times),
            "minimum": min(contender.times),
            "rounds": len(contender.times),
        }
    return results


def warmed_up(make: Callable[[], Step], rounds: int) -> Contender:
    """The contender after its first calls, with as many turns as its speed allows."""
    start = time.perf_counter()
    step = make()
    step.run()
    first_call = time.perf_counter() - start
    each = step.seconds(step.run, 1)
    if each < TOO_SLOW:
        each = min(each, step.seconds(step.run, 1))
    repeats = max(1, round(SHORTEST_TURN / each))
    affordable = int(LONGEST / (each * repeats))
    return Contender(step, first_call, each, repeats, min(rounds, max(affordable, FEWEST_ROUNDS)))


def take_turns(
    running: dict[str, Contender], device: Device, rounds: int, title: str, progress: bool
) -> None:
    """The interleaved run. A slow contender sits out most rounds, spread over the run."""
    with collector_off():
        for n in tqdm(range(rounds), leave=False, disable=not progress, desc=title):
            for contender in running.values():
                taken, due = len(contender.times), contender.rounds * (n + 1) / rounds
                if taken + 1 > due + 1e-9:
                    continue
                step = contender.step
                if contender.each < SHORTEST_TURN:
                    step.run()
                contender.times.append(step.seconds(step.run, contender.repeats))


@contextlib.contextmanager
def collector_off() -> Iterator[None]:
    """Python's garbage collector runs before, not during, the measurement."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def deviations(found: dict[str, Any], reference: str) -> dict[str, float]:
    """The largest difference from the reference, relative to the largest entry of its tensor.

    A tensor that is next to nothing beside the others counts as a thousandth of them.
    """
    if reference not in found:
        return {}
    right = found[reference]
    sizes = [float(r.abs().max()) for r in right]
    scales = [max(size, 1e-3 * max(sizes), 1e-30) for size in sizes]
    return {
        name: max(map(_deviation, tensors, right, scales))
        for name, tensors in found.items()
        if name.split()[0] != PLAIN
    }


def _deviation(mine: torch.Tensor, right: torch.Tensor, scale: float) -> float:
    if mine.numel() != right.numel():
        return float("inf")
    return float((mine.reshape(right.shape) - right).abs().max()) / scale


def shortened(error: Exception) -> str:
    """The first line of a message."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    text = f"{type(error).__name__}: {lines[0]}"
    return text if len(text) < 160 else text[:157] + "..."
