"""The errors of a function on a domain, in units in the last place."""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import mpmath as mp
import torch

import taylortorch as tt

from .domains import Case, draw
from .exact import settled

ORDER, POINTS = 4, 48
DTYPES = {"float64": torch.float64, "float32": torch.float32}


def spacing(x: Any, dtype: torch.dtype) -> Any:
    """The distance of neighbouring numbers of this dtype at ``x``."""
    bits, lowest = (24, -149) if dtype == torch.float32 else (53, -1074)
    return mp.ldexp(1, max(int(mp.mag(x)) - bits if x else lowest, lowest))


def _number(x: Any) -> float:
    return float(x) if x < 1e300 else math.inf


@dataclasses.dataclass(frozen=True)
class Errors:
    """Of one function on one domain in one dtype: per order, the errors at each point."""

    plain: list[list[float]]
    conditioned: list[list[float]]
    own_value: bool


def measured(case: Case, domain: str, dtype: torch.dtype, points: int = POINTS) -> Errors:
    """The errors at the first ``points`` of the domain's points, in units in the last place.

    ``plain``: of the correctly rounded coefficient. ``conditioned``: of that, plus what one unit in
    the last place of the argument (of ``length``, where that is longer) makes of the coefficient.
    """
    generator = torch.Generator().manual_seed(zlib.crc32(f"{case.name} {domain}".encode()))
    # all points are drawn, so that fewer are the first of them
    spans = domain.split(" x ")
    arguments = [draw(span, POINTS, generator)[:points].to(dtype) for span in spans]
    series = [
        tt.TaylorTensor(x, torch.tensor(v, dtype=dtype), order=ORDER)
        for x, v in zip(arguments, case.curve, strict=True)
    ]
    result, own = case.call(*series), case.call(*arguments)
    same = (result.value == own) | (torch.isnan(result.value) & torch.isnan(own))
    coeffs = [c.detach().tolist() for c in result.coeffs]
    limit = float(torch.finfo(dtype).max)
    errors = Errors([[] for _ in coeffs], [[] for _ in coeffs], bool(same.all()))
    for n in range(points):
        at = [float(x[n]) for x in arguments]
        truth = settled(case.reference, at, case.curve, ORDER + 1)
        move = max(spacing(max(abs(a), case.length), dtype) for a in at)
        for k in range(ORDER + 1):
            got, want = coeffs[k][n], truth[k]
            # k c_k is formed first, so that the last factor 4 below overflow may be lost
            if math.isinf(got) and abs(want) > limit / 16 and (got > 0) == (want > 0):
                error = mp.mpf(0)
            else:
                error = abs(mp.mpf(got) - want)
            unit = spacing(want, dtype)
            inherent = (k + 1) * abs(truth[k + 1]) * move
            errors.plain[k].append(_number(error / unit))
            errors.conditioned[k].append(_number(error / (unit + inherent)))
    return errors


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the page."""

    name: str
    domain: str
    dtype: str
    largest: tuple[float, ...]
    median: tuple[float, ...]
    conditioned: float
    own_value: bool = True

    @property
    def key(self) -> tuple[str, str, str]:
        return self.name, self.domain, self.dtype


def rows(cases: Sequence[Case], points: int = POINTS) -> Iterator[Row]:
    for case in cases:
        for name, dtype in DTYPES.items():
            for domain in case.domains_in(dtype):
                errors = measured(case, domain, dtype, points)
                yield Row(
                    case.name,
                    domain,
                    name,
                    tuple(max(e) for e in errors.plain),
                    tuple(sorted(e)[len(e) // 2] for e in errors.plain),
                    max(max(e) for e in errors.conditioned[1:]),
                    errors.own_value,
                )
