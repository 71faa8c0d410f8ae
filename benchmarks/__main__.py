"""``python -m benchmarks [workloads] [--rounds 15] [--quick] [--render]``.

Measures the workloads named by their letters, all by default, on the GPU if there is one. Each is
merged into ``benchmarks/results/<device>.json`` as soon as it is done; then ``docs/benchmarks.md``
and its pictures are drawn from what is there. ``--quick`` runs everything at tiny sizes, without
compiling, and writes into a temporary folder. ``--render`` measures nothing.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from .device import Device, processor, use_threads
from .measure import Stopped, measured
from .report import render
from .workloads import WORKLOADS, Workload

ROOT = Path(__file__).parent.parent
PACKAGES = ("taylortorch", "torch", "jet-for-pytorch", "jax", "jaxlib", "folx", "numpy")


def environment(device: Device) -> dict[str, Any]:
    """What the numbers depend on besides the code."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "date": datetime.date.today().isoformat(),
        "device": device.describe(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "system": platform.system(),
        "versions": versions,
    }


def run(
    workload: Workload, device: Device, rounds: int, quick: bool, progress: bool = True
) -> dict[str, Any]:
    """All sizes of a workload."""
    start = time.perf_counter()
    stopped, cases = Stopped(), []
    for size in tqdm(workload.tiny if quick else workload.sizes, leave=False, disable=not progress):
        problem = workload.problem(size, device)
        steps = {
            step: measured(problem, step, device, rounds, not quick, stopped, progress)
            for step in problem.steps
        }
        cases.append(
            {
                "name": problem.name,
                "sizes": problem.sizes,
                "products": problem.products,
                "steps": steps,
            }
        )
    return {
        "environment": environment(device),
        "rounds": rounds,
        "seconds": round(time.perf_counter() - start),
        "cases": cases,
    }


def main() -> None:
    """Measure, save, draw."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    titles = ", ".join(f"{key}: {w.title}" for key, w in WORKLOADS.items())
    parser.add_argument("workloads", nargs="*", metavar="workload", help=titles)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where it is")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, two rounds, no compiling")
    parser.add_argument("--render", action="store_true", help="only tables and pictures")
    parser.add_argument("--output", type=Path, help="a folder for everything that is written")
    arguments = parser.parse_args()
    unknown = set(arguments.workloads) - set(WORKLOADS)
    if unknown:
        parser.error(f"unknown workloads {sorted(unknown)}; there are: {titles}")
    results, pages = ROOT / "benchmarks" / "results", ROOT / "docs"
    if arguments.quick and arguments.output is None:
        arguments.output = Path(tempfile.mkdtemp(prefix="benchmarks-"))
    if arguments.output is not None:
        results = pages = arguments.output
    results.mkdir(parents=True, exist_ok=True)
    device = Device(arguments.device) if arguments.device else Device.default()
    if not arguments.render:
        # before JAX is imported, which looks at both once
        use_threads(arguments.threads)
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        warnings.filterwarnings("ignore", module=r"torch\._(dynamo|inductor).*")
        path = results / f"{device.name}.json"
        saved = json.loads(path.read_text()) if path.exists() else {}
        for key in arguments.workloads or WORKLOADS:
            rounds = 2 if arguments.quick else arguments.rounds
            saved[key] = run(WORKLOADS[key], device, rounds, arguments.quick)
            path.write_text(json.dumps(dict(sorted(saved.items())), indent=1) + "\n")
            print(f"{key}: {WORKLOADS[key].title}, {saved[key]['seconds']} s", flush=True)
    for path in render(results, pages):
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
