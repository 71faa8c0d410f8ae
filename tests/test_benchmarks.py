"""The benchmarks compare contenders that do the same work, and their page can be drawn."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import latency, measure
from benchmarks.device import Device, peak_of_allocations
from benchmarks.jitted import Jax
from benchmarks.report import digits, render, spread
from benchmarks.targets import TARGETS
from benchmarks.ways import PLAIN, Cannot, Problem, Torch, Unavailable
from benchmarks.workloads import NESTED, TAYLOR, TAYLOR_COMPILED, WORKLOADS

CPU = Device("cpu")
TINY = [
    pytest.param(workload, size, id=f"{key}-{n}")
    for key, workload in WORKLOADS.items()
    for n, size in enumerate(workload.tiny)
]


def torch_ways(problem: Problem) -> dict[str, Torch]:
    return {name: way for name, way in problem.ways.items() if isinstance(way, Torch)}


@pytest.mark.parametrize(("workload", "size"), TINY)
def test_contenders_return_the_same_derivatives(workload, size):
    """Also the gradients of a training step: of every parameter."""
    problem = workload.problem(size, CPU, torch.float64)
    assert {PLAIN, TAYLOR, problem.reference} <= set(problem.ways)
    for step in problem.steps:
        problem.set_up(step)
        found = {}
        for name, way in torch_ways(problem).items():
            try:
                found[name] = way.step(problem, step, CPU).derivatives()
            except (Unavailable, NotImplementedError):
                # not installed, or a function that it has no rule for
                assert "torch-jet" in name
        away = measure.deviations(found, problem.reference)
        assert {TAYLOR, NESTED} <= set(away)
        assert max(away.values()) < 1e-9, away


@pytest.mark.parametrize("key", WORKLOADS)
def test_full_sizes_are_those_of_the_tiny_ones(key):
    """Every contender of a full size, compiled ones aside, is checked at a tiny size above."""
    workload = WORKLOADS[key]

    def described(way: object) -> tuple:
        return (type(way).__name__, getattr(getattr(way, "make", None), "__qualname__", ""))

    checked = set()
    for size in workload.tiny:
        for name, way in workload.problem(size, CPU).ways.items():
            checked.add((name, described(way)))
    for size in workload.sizes:
        if size.get("d", 0) > 10_000:
            continue
        for name, way in workload.problem(size, CPU).ways.items():
            if isinstance(way, (Cannot, Jax)):
                continue
            eager = name.removesuffix(" compiled")
            assert (eager, described(way)) in checked or name == TAYLOR_COMPILED, name


def test_directions_of_an_estimate():
    """What is compiled, where a generator cannot be traced, is the eager estimate."""
    workload = WORKLOADS["e"]
    size = workload.tiny[1] | {"compiled": ("forward",)}
    problem = workload.problem(size, CPU, torch.float64)
    problem.set_up("forward")
    ways = [Torch(problem.ways[name].make) for name in (TAYLOR, TAYLOR_COMPILED)]
    eager, written = (way.step(problem, "forward", CPU).derivatives() for way in ways)
    torch.testing.assert_close(eager, written)


def test_memory_of_a_step():
    def run() -> torch.Tensor:
        x = torch.ones(1000)
        y = x + x
        del x
        return y * y

    assert 8_000 <= peak_of_allocations(run) <= 8_200


def test_turns_are_interleaved_and_slow_contenders_sit_out():
    order = []

    def contender(name: str, rounds: int) -> measure.Contender:
        step = measure.Step(lambda: order.append(name), lambda run, n: run() or 1.0, None, None)
        return measure.Contender(step, 0.0, 1.0, 1, rounds)

    running = {"A": contender("A", 6), "B": contender("B", 3)}
    measure.take_turns(running, CPU, 6, "", progress=False)
    assert "".join(order) == "AABAABAAB"


def test_a_slow_contender_is_not_asked_for_more():
    problem = WORKLOADS["a"].problem(WORKLOADS["a"].tiny[1], CPU)
    stopped = measure.Stopped()
    stopped.where[NESTED, (8,), "forward"] = "why"
    found = measure.measured(
        problem, "forward", CPU, 2, compiling=False, stopped=stopped, progress=False
    )
    assert found[NESTED] == {"word": "too slow", "note": "why"}
    assert found[TAYLOR]["rounds"] == 2
    assert 0 < found[TAYLOR]["minimum"] <= found[TAYLOR]["median"]


def small_results() -> dict:
    """As ``python -m benchmarks`` writes them, with round numbers: Taylor 2, nested 4, plain 1."""
    entries = {
        PLAIN: 1.0,
        TAYLOR: 2.0,
        TAYLOR_COMPILED: 1.5,
        NESTED: 4.0,
    }
    found = {
        name: {
            "median": 1e-3 * t,
            "minimum": 9e-4 * t,
            "rounds": 15,
            "bytes": 2**20 * t,
            "first_call": 0.1,
            "deviation": 1e-7,
        }
        for name, t in entries.items()
    }
    found["torch-jet"] = {"word": "not installed", "note": "torch-jet is not installed."}
    found[NESTED]["rounds"] = 3
    environment = {
        "date": "2000-01-01",
        "device": "a processor",
        "processor": "a processor",
        "cores": 2,
        "threads": 1,
        "python": "3",
        "system": "Linux",
        "versions": {"torch": "2", "jax": None},
    }
    results = {}
    for key, workload in WORKLOADS.items():
        cases = []
        for size in workload.sizes[:2]:
            problem = workload.problem(size, CPU)
            steps = dict.fromkeys(problem.steps, found)
            cases.append(
                {
                    "name": problem.name,
                    "sizes": problem.sizes,
                    "products": problem.products,
                    "steps": steps,
                }
            )
        results[key] = {"environment": environment, "rounds": 15, "seconds": 1, "cases": cases}
    return results


def test_page_and_pictures(tmp_path):
    (tmp_path / "cpu.json").write_text(json.dumps(small_results()))
    written = render(tmp_path, tmp_path)
    names = ["benchmarks.md", "benchmarks_time.png", "benchmarks_memory.png"]
    assert [path.name for path in written] == [*names, "benchmarks_laplacian.png"]
    assert all(path.stat().st_size for path in written)
    text = written[0].read_text()
    assert text.startswith("<!-- generated")
    assert all(f"### ({key}) {workload.title}" in text for key, workload in WORKLOADS.items())
    assert "| order 2 | 1.00 | 2.00 | **1.50** | 4.00 † | not installed<sup>1</sup> |" in text
    assert "<sup>1</sup> torch-jet is not installed." in text
    # nested over Taylor is 2: over 1.3, short of 3 where Taylor is compiled
    latency = [line for line in text.splitlines() if line.startswith("| (f) ")]
    assert latency[0].endswith("| >= 1.3 | 2.00 | 2.00 | met |")
    assert latency[1].endswith("| >= 3 | 2.67 | 2.67 | **missed** |")


def test_targets_select_sizes_that_are_measured():
    for target in TARGETS:
        workload = WORKLOADS[target.workload]
        problems = [workload.problem(size, CPU) for size in workload.sizes]
        chosen = [p for p in problems if target.where(p.sizes)]
        needed = {target.over, target.under}
        assert any(needed <= set(p.ways) and set(target.steps) <= set(p.steps) for p in chosen), (
            target.text
        )


def test_labels_are_moved_apart():
    assert spread([0.0, 10.0], 1.0) == [0.0, 10.0]
    moved = spread([5.0, 5.2, 0.0], 1.0)
    assert moved == pytest.approx([4.6, 5.6, 0.0])
    assert [digits(x) for x in (0.123, 12.34, 1234.5)] == ["0.12", "12.3", "1,234"]
    assert math.isclose(sum(moved), 10.2)


@pytest.mark.parametrize("name", [n for n in latency.workloads() if "order 4" not in n])
def test_calls_whose_latency_is_compared(name):
    latency.workloads()[name]()()


def test_latency_of_two_checkouts(monkeypatch, capfd):
    root = Path(__file__).parent.parent
    options = ["--against", str(root), "--pairs", "1", "--rounds", "2"]
    monkeypatch.setattr(sys, "argv", ["latency", "add: line, order 1, one sample", *options])
    latency.main()
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].startswith("| workload | old, us |")
    assert lines[2].startswith("| add: line, order 1, one sample |")
    assert lines[-2].startswith("new / old, all together: ")


def test_a_checkout_is_where_the_package_comes_from(tmp_path):
    # there is another one, or none at all, to be found
    refused = pytest.raises(RuntimeError, match=r"asked for the package|has ended")
    with refused, latency.Checkout(tmp_path):
        pass
