"""What compiled code must do right before the library lets itself be compiled.

On the releases of torch that the tests have run on that is known. On any other the probes run when
the first series is made in a trace; ``python -m taylortorch`` runs them everywhere.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch

from ..engine.registry import release
from ..engine.tensor import TaylorTensor

TESTED = ("2.10.0", "2.13.0", "2.14.1", "2.15.0")
"""The versions of torch that the tests run on."""


def warn_of_newer() -> None:
    """Say so where torch is newer than any that the tests have run on."""
    if release(torch.__version__) > max(map(release, TESTED)):
        warnings.warn(
            f"taylortorch was tested with torch {', '.join(TESTED)}, not with the newer "
            f"{torch.__version__}: `python -m taylortorch` checks what matters",
            stacklevel=3,
        )


def _written(x: Any) -> Any:
    y = x * 2
    y[0] = 1.0
    y[1:] = x[:-1]
    return y * x


# each shows whether Dynamo leaves an operation of Python's to __torch_function__
PROBES: dict[str, Callable[[Any], Any]] = {
    "x[i] = v": _written,
    "abs(x)": lambda x: abs(x),
    "pow(x, 2)": lambda x: pow(x, 2) - x**3,
    "1 - x": lambda x: (1 - x) / (2 + x) + 2 / x + 2**x,
    "x @ a": lambda x: x @ torch.ones_like(x.value),
    "a tuple of series": lambda x: torch.cat((x, torch.stack((x, x)).sum(0))),
    "for row in x": lambda x: sum([row * row for row in x]),
    "x.tanh()": lambda x: torch.softmax(x.tanh(), -1),
}


def _all(x: Any) -> list[tuple]:
    return [probe(x).coeffs for probe in PROBES.values()]


def _made(x: torch.Tensor) -> list[tuple]:
    return _all(TaylorTensor(x))


def probed() -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    """Each probe, a coefficient that it gives compiled, and the same in eager mode.

    The series is made in the trace, and passed in. Whatever cannot be traced raises.
    """
    point = torch.tensor([0.3, -0.7, 0.5], dtype=torch.float64)
    # one trace each, as a trace takes seconds
    for where, function, given in (
        ("made inside", _made, point),
        ("passed in", _all, TaylorTensor(point)),
    ):
        results = torch.compile(function, backend="eager", fullgraph=True)(given)
        for name, got, expected in zip(PROBES, results, _made(point), strict=True):
            for k, (a, b) in enumerate(zip(got, expected, strict=True)):
                yield f"c_{k} of {name}, {where}", a, b


@functools.cache
def _failing() -> str:
    try:
        for what, got, expected in probed():
            if not torch.allclose(got, expected):
                return f"{what}, is {got.tolist()}, and not {expected.tolist()}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


_under_way = False


def failing() -> str:
    """How a probe fails on a torch that was not tested; empty where none does."""
    global _under_way
    if _under_way or release(torch.__version__) in map(release, TESTED):
        return ""
    _under_way = True
    try:
        return _failing()
    finally:
        _under_way = False
