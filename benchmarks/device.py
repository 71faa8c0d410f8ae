"""Where the contenders run, and how time and memory are read there."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from typing import Any

import torch

SMALL_BATCH = 64
"""Up to here launches cost more than arithmetic on a GPU: compiled code replays CUDA graphs."""


class Device:
    """``cpu`` or ``cuda``: one set of contenders, two ways to read the clock and the memory."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.torch = torch.device(name)

    @classmethod
    def default(cls) -> Device:
        """The GPU where there is one."""
        return cls("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def is_cuda(self) -> bool:
        """Whether the clock and the memory are those of a GPU."""
        return self.name == "cuda"

    def compiled(self, f: Callable, batch: int) -> Callable:
        """``f`` compiled for fixed sizes, without graph breaks."""
        mode = "reduce-overhead" if self.is_cuda and batch <= SMALL_BATCH else None
        return torch.compile(f, fullgraph=True, dynamic=False, mode=mode)

    def seconds(self, run: Callable[[], Any], repeats: int) -> float:
        """Seconds for one call, from ``repeats`` of them in a row."""
        if not self.is_cuda:
            return wall(run, repeats)
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        for _ in range(repeats):
            run()
        stop.record()
        torch.cuda.synchronize()
        return start.elapsed_time(stop) / 1e3 / repeats

    def peak(self, run: Callable[[], Any]) -> int:
        """The most bytes that one call holds at once beyond what was there before it."""
        return self._peak_on_gpu(run) if self.is_cuda else peak_of_allocations(run)

    def _peak_on_gpu(self, run: Callable[[], Any]) -> int:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = run()
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated() - before
        del result
        return peak

    def describe(self) -> str:
        """The model of the processor, or of the GPU."""
        return torch.cuda.get_device_name() if self.is_cuda else processor()


def wall(run: Callable[[], Any], repeats: int) -> float:
    """Seconds for one call by the wall clock."""
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - start) / repeats


def peak_of_allocations(run: Callable[[], Any]) -> int:
    """The running sum of torch's allocations and deallocations at its highest.

    The profiler reports each of them, compiled code included; scratch space inside a matrix product
    is not among them.
    """
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        result = run()
    events = [
        (event.start_ns(), event.nbytes())
        for event in profile.kineto_results.events()
        if event.name() == "[memory]"
    ]
    del result
    held = highest = 0
    for _, size in sorted(events, key=lambda event: event[0]):
        held += size
        highest = max(highest, held)
    return highest


def processor() -> str:
    """The CPU as the system names it."""
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":")[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def use_threads(count: int) -> None:
    """The same number of threads for all: torch by its own setting, XLA by the cores it may use."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
    torch.set_num_threads(count)
