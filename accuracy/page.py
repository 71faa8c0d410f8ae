"""docs/accuracy.md: its text and tables; and back, what it claims."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from .cases import GROUPS
from .domains import Case
from .errors import DTYPES, ORDER, POINTS, Row
from .high_order import LONG, Long
from .infinity import Limit

SHOWN = (4, 8, 12, 16, 20)

HEAD = """# Accuracy

Made by `make accuracy` (`python -m accuracy`); `tests/test_accuracy.py` measures again and fails
where a function has become worse than this page says.

Every coefficient `c_k` of `f(x + t)` (for two arguments of `f(x + t, y - t/2)`) is compared with
many digits of mpmath, at {points} points of each domain, drawn with a fixed seed: evenly from
`[a, b]`, evenly on a logarithmic scale from `a ... b`. Errors are in units in the last place of the
correctly rounded coefficient (of the smallest subnormal number, where it is one); a cell is
*median / maximum*. 0.5 is the best possible.

Near a zero of `c_k`, and where the argument is large, the rounding of `x` itself would change many
digits: the maximum there says something about the function, not about the code. So the last column
is the largest error, over orders 1 to 4, in units of: one unit in the last place of `c_k` **plus**
what one unit in the last place of the argument makes of it. Where it is `E`, the result is within
`E` units of the exact coefficient of an argument within `E` units. (The argument's unit is that of
the function's own length where this is larger, 1 for `tanh` or `sin`: their derivatives at `1e-300`
are those at 0. For `log`, powers and quotients there is no such length.)

Column 0 is torch's own value, bit for bit, except for composites (orthogonal polynomials and
`spherical_bessel_j0`), whose value agrees to rounding. Domains end where results leave the range of
normal numbers: below, torch's `sigmoid` and `exp` flush to 0, and so do their derivatives.
"""

NOTES = """## What stands out

* `tanh` far from 0: its slope is formed as `1 - y^2`, as in torch. The error is below `eps` itself,
  but the slope tends to 0. An accurate slope costs a second transcendental function, 30 to 50 % of
  the time of `tanh` on large arrays. `tanhshrink` takes its higher derivatives from it.
* `x**0.3` and other exponents that `p - k` rounds: half a unit of `p` times `|log x|`.
* `log_ndtr` between -1.4 and 2: derivatives of order 3 and 4 are a hundred times smaller than the
  terms that make them up. Beyond, none of them cancels.
* `i0e`, `i1e` and the scaled `k0`, `k1` below 25 (float32: 12), where no asymptotic series holds:
  the slope is the difference of two functions that are almost equal, a factor `2 x` per order.
* `gammainc`: the density is formed as `exp((a - 1) log x - x - lgamma(a))`, as in torch.
* `bessel_j0`, `bessel_j1`, `bessel_y0` and `bessel_y1` in float64: torch's own values, from which
  the derivatives are made, are right to 7 digits between 3 and 10.
* `polygamma(1, x)`: torch's value has ten digits, in float64. The derivatives of `digamma` and
  `lgamma` are not made from it.
* `erf`, `erfc`, `ndtr`, `gelu` in their tails have a conditioned error below 1: `exp(-x^2)` suffers
  from the rounding of `x^2` no more than from that of `x`.
"""

LONG_HEAD = """## Order 20

The largest error of `c_k`, in multiples of `2^-52`, over points of an interval, in float64.
*Relative* to `|c_k|`, which may pass near 0. To its *scale*: `min over r of max_j |c_j| r^(j - k)`,
what Cauchy's estimate says `c_k` can be, so that a `c_k` that happens to be small counts as its
neighbours do. A recurrence that does not amplify errors grows like `k`.

![error by degree](accuracy.png)

| function | interval | {relative} | {scaled} |
|---|---|{rule}
"""
LONG_NOTES = """
What grows faster: `erfcx` and `log_ndtr` near 1, where their recurrence turns (from there on it is
run downwards); `sinc` away from 0, a quotient whose coefficients fall like `1 / k!` while the error
falls like `|pi x|^-k`. `bessel_j0` starts with the error of torch's value.
"""
INFINITY_HEAD = """## At infinity

Where the value is a number, and any of the first three derivatives, here or by torch's reverse mode
over reverse mode, is not; all others are what the mathematics says. NaN here is NaN in torch too.

| function | x | derivatives | by torch |
|---|---|---|---|
"""


def rounded(x: float) -> str:
    """Two digits, rounded up."""
    if not math.isfinite(x):
        return "inf"
    if x == 0:
        return "0"
    exponent = max(math.floor(math.log10(x)), -2)
    digits = math.ceil(x / 10.0 ** (exponent - 1) - 1e-9)
    value = digits * 10.0 ** (exponent - 1)
    return f"{value:.1e}".replace("e+0", "e").replace("e+", "e") if value >= 1e3 else f"{value:.3g}"


def line(row: Row) -> str:
    cells = [f"{rounded(m)} / {rounded(e)}" for m, e in zip(row.median, row.largest, strict=True)]
    cells = [f"`{row.name}`", row.domain, row.dtype, *cells, rounded(row.conditioned)]
    return f"| {' | '.join(cells)} |"


def table(rows_of: Callable[[Sequence[Case]], Iterable[Row]]) -> Iterator[str]:
    for title, cases in GROUPS.items():
        yield f"## {title}"
        yield ""
        orders = " | ".join(map(str, range(ORDER + 1)))
        yield f"| function | domain | dtype | {orders} | conditioned |"
        yield "|---" * (ORDER + 5) + "|"
        for row in rows_of(cases):
            yield line(row)
        yield ""


def long_line(case: Long, relative: Sequence[float], scaled: Sequence[float]) -> str:
    cells = [rounded(e[k]) for e in (relative, scaled) for k in SHOWN]
    return f"| `{case.name}` | [{case.low:g}, {case.high:g}] | {' | '.join(cells)} |"


def _three(derivatives: Sequence[float]) -> str:
    return ", ".join("NaN" if math.isnan(d) else f"{d + 0.0:g}" for d in derivatives)


def infinity_table(limits: Iterable[Limit]) -> Iterator[str]:
    for name, x, ours, torchs in limits:
        if any(map(math.isnan, ours + torchs)):
            yield f"| `{name}` | {x:g} | {_three(ours)} | {_three(torchs)} |"


def page(
    rows_of: Callable[[Sequence[Case]], Iterable[Row]],
    errors_of: Callable[[Long], tuple[Sequence[float], Sequence[float]]],
    limits: Iterable[Limit],
) -> Iterator[str]:
    """The page from what was measured, a line or a paragraph at a time."""
    yield HEAD.format(points=POINTS)
    yield from table(rows_of)
    yield NOTES
    relative, scaled = (
        " | ".join(f"{what} k = {k}" if k == SHOWN[0] else str(k) for k in SHOWN)
        for what in ("relative,", "to scale,")
    )
    rule = "---|" * 2 * len(SHOWN)
    yield LONG_HEAD.format(relative=relative, scaled=scaled, rule=rule).rstrip("\n")
    for case in LONG:
        yield long_line(case, *errors_of(case))
    yield LONG_NOTES
    yield INFINITY_HEAD.rstrip("\n")
    yield from infinity_table(limits)


def claims(text: str) -> dict[tuple[str, str, str], Row]:
    """The rows of the page, by function, domain and dtype."""
    found = {}
    for part in text.splitlines():
        cells = [cell.strip() for cell in part.strip("|").split("|")]
        if len(cells) != ORDER + 5 or cells[2] not in DTYPES:
            continue
        pairs = [re.split(" / ", cell) for cell in cells[3:-1]]
        row = Row(
            cells[0].strip("`"),
            cells[1],
            cells[2],
            tuple(float(largest) for _, largest in pairs),
            tuple(float(median) for median, _ in pairs),
            float(cells[-1]),
        )
        found[row.key] = row
    return found


def long_claims(text: str) -> dict[str, tuple[float, ...]]:
    """The errors at the shown degrees, relative and scaled, by function."""
    names = {case.name for case in LONG}
    found = {}
    for part in text[text.index(LONG_HEAD[:10]) :].splitlines():
        cells = [cell.strip() for cell in part.strip("|").split("|")]
        if len(cells) == 2 + 2 * len(SHOWN) and cells[0].strip("`") in names:
            found[cells[0].strip("`")] = tuple(map(float, cells[2:]))
    return found
