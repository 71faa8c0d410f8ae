"""docs/accuracy.md is what is measured; and the coefficients at infinity, 0 and other borders.

The oracle is the package ``accuracy``: exact series in mpmath, measured on the page's own points.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mpmath as mp
import pytest
import torch
import torch.nn.functional as F

import taylortorch as tt
from accuracy.cases import CASES
from accuracy.cases import GROUPS as BY_TITLE
from accuracy.domains import Case, draw
from accuracy.errors import DTYPES, Row, measured
from accuracy.exact import Exact, settled
from accuracy.high_order import HIGH, LONG, Long, envelope, long_errors
from accuracy.infinity import at_infinity, by_torch
from accuracy.page import NOTES, SHOWN, claims, long_claims, page

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "accuracy.md").read_text()
CLAIMS, LONG_CLAIMS = claims(PAGE), long_claims(PAGE)
GROUPS = [pytest.param(cases, id=title) for title, cases in BY_TITLE.items()]
F64 = torch.float64
INF, NAN = math.inf, math.nan
# what torch's own instructions may change from one machine to another; the page is measured with
# these vectors, and other kernels (of i1e in single precision, say) have other errors
SLACK = 2.0 if torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512") else 5.0

# the value is computed by the rule, not by torch
COMPOSITE = ("polynomial", "spherical")


def held_against_the_page(cases: Any, points: int) -> None:
    for case, (name, dtype) in itertools.product(cases, DTYPES.items()):
        for domain in case.domains_in(dtype):
            key = case.name, domain, name
            claim = CLAIMS[key]
            errors = measured(case, domain, dtype, points)
            # near a zero of c_k a last digit of torch's own value, which is the processor's, moves
            # many of c_k: there it is enough to be exact for an argument within its rounding
            enough = min(1.0, SLACK * claim.conditioned)
            for k, claimed in enumerate(claim.largest):
                for found, conditioned in zip(errors.plain[k], errors.conditioned[k], strict=True):
                    assert found <= SLACK * (claimed + 1) or conditioned <= enough, (
                        f"{key}: c_{k} is off by {found:.3g} units"
                    )
            worst = max(max(e) for e in errors.conditioned[1:])
            assert worst <= SLACK * (claim.conditioned + 1), f"{key}: {worst}"
            assert errors.own_value or any(word in case.name for word in COMPOSITE), key


@pytest.mark.parametrize("cases", GROUPS)
def test_no_function_is_less_accurate_than_the_page_says(cases: Any) -> None:
    held_against_the_page(cases, 2)


@pytest.mark.slow
@pytest.mark.parametrize("cases", GROUPS)
def test_no_function_is_less_accurate_than_the_page_says_at_many_points(cases: Any) -> None:
    held_against_the_page(cases, 16)


def test_every_function_and_domain_stands_on_the_page() -> None:
    keys = {
        (case.name, domain, name)
        for case in CASES
        for name, dtype in DTYPES.items()
        for domain in case.domains_in(dtype)
    }
    assert set(CLAIMS) == keys
    assert set(LONG_CLAIMS) == {case.name for case in LONG}


def test_the_page_is_written_by_what_reads_it() -> None:
    """From its own claims; two digits, rounded up, are the same two digits rounded up again."""

    def claimed(cases: Sequence[Case]) -> list[Row]:
        keys = [
            (case.name, domain, name)
            for case in cases
            for name, dtype in DTYPES.items()
            for domain in case.domains_in(dtype)
        ]
        return [CLAIMS[key] for key in keys]

    def errors(case: Long) -> tuple[list[float], list[float]]:
        found = LONG_CLAIMS[case.name]
        by_degree = (dict(zip(SHOWN, half, strict=True)) for half in (found[:5], found[5:]))
        relative, scaled = ([d.get(k, 0.0) for k in range(HIGH + 1)] for d in by_degree)
        return relative, scaled

    assert "\n".join(page(claimed, errors, at_infinity())) + "\n" == PAGE


def test_what_stands_out_is_explained() -> None:
    outside = {row.name for row in CLAIMS.values() if row.conditioned > 20}
    for name in outside:
        word = name.split("(")[0].removeprefix("special.").removeprefix("scaled_modified_bessel_")
        assert word in NOTES, name


@pytest.mark.parametrize("cases", GROUPS)
def test_references_are_the_derivatives_of_their_values(cases: Any) -> None:
    """By mpmath's numerical differentiation, at the first point of the first domain."""
    for case in cases:
        domain = case.domains_in(F64)[0]
        generator = torch.Generator().manual_seed(1)
        at = [float(draw(span, 1, generator)) for span in domain.split(" x ")]
        with mp.workprec(80):

            def value(t: Any, case: Any = case, at: Any = at) -> Any:
                moved = [mp.mpf(x) + v * t for x, v in zip(at, case.curve, strict=True)]
                return case.reference(*(Exact([x, 1]) for x in moved)).coeffs[0]

            expected = [d / mp.factorial(k) for k, d in enumerate(mp.diffs(value, 0, 4))]
        found = settled(case.reference, at, case.curve, 4)
        for k in range(5):
            assert abs(found[k] - expected[k]) <= 1e-15 * max(map(abs, expected)), (case.name, k)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.name, marks=[pytest.mark.slow] if "network" in case.name else [])
        for case in LONG
    ],
)
def test_order_twenty_is_as_accurate_as_the_page_says(case: Any) -> None:
    _, scaled = long_errors(case, 1)
    claimed = LONG_CLAIMS[case.name][len(SHOWN) :]
    for k, claim in zip(SHOWN, claimed, strict=True):
        assert scaled[k] <= SLACK * (claim + 1), f"c_{k}: {scaled[k]}"


# function, where its formulas meet, and the largest error in units of the scale, before and after
SEAMS: list[tuple[str, float, float, float]] = [
    ("special.erfcx", 1.0, 40, 40),
    ("special.log_ndtr", -math.sqrt(2), 100, 2000),
    ("special.log_ndtr", 0.0, 100, 100),
    ("special.i0e", 25.0, 1e6, 20),
    ("special.i1e", 25.0, 1e6, 20),
    ("special.scaled_modified_bessel_k0", 25.0, 1e6, 20),
    ("special.scaled_modified_bessel_k1", 25.0, 1e6, 20),
    ("special.i1", 4.0, 20, 20),
    ("special.spherical_bessel_j0", 3.0, 50, 50),
    ("sinc", 3 / math.pi, 50, 50),
    ("digamma", 0.0, 20, 20),
    ("mish", 0.0, 20, 20),
]


@pytest.mark.parametrize(("name", "seam", "before", "after"), SEAMS)
def test_where_one_formula_takes_over_from_another(
    name: str, seam: float, before: float, after: float
) -> None:
    case = next(case for case in CASES if case.name == name)
    for distance, units in ((-1e-3, before), (1e-3, after)):
        x = torch.tensor(seam + distance, dtype=F64)
        coeffs = case.call(tt.TaylorTensor(x, order=4)).coeffs
        truth = settled(case.reference, [x.item()], [1.0], 6)
        scales = envelope(truth)
        for k in range(1, 5):
            error = abs(mp.mpf(coeffs[k].item()) - truth[k]) / scales[k]
            assert error <= units * 2.0**-52, f"c_{k} at {x}: {float(error)}"


# --- special values -------------------------------------------------------------------------------


def derivatives(f: Callable, x: float, order: int = 3, dtype: torch.dtype = F64) -> list[float]:
    y = f(tt.TaylorTensor(torch.tensor(x, dtype=dtype), order=order))
    return [d.item() for d in y.derivatives[1:]]


def _tanh_gelu(x: torch.Tensor) -> torch.Tensor:
    return F.gelu(x, approximate="tanh")


ZERO, ONE, GROWS = (0, 0, 0), (1, 0, 0), (INF, INF, INF)
ALTERNATES = (INF, -INF, INF)
LIMITS: list[tuple[Callable, float, tuple[float, ...]]] = [
    *((f, x, ZERO) for f in (torch.tanh, torch.sigmoid, torch.erf) for x in (INF, -INF)),
    *((f, x, ZERO) for f in (torch.erfc, torch.special.ndtr, F.softsign) for x in (INF, -INF)),
    *((f, x, ZERO) for f in (torch.special.i0e, torch.special.i1e) for x in (INF, -INF)),
    *((f, -INF, ZERO) for f in (torch.exp, torch.exp2, torch.expm1, F.softplus)),
    *((f, -INF, ZERO) for f in (F.elu, F.celu, F.selu, F.silu, F.gelu, F.mish, _tanh_gelu)),
    *((f, -INF, ZERO) for f in (F.relu, F.hardswish, F.hardsigmoid, F.hardtanh)),
    *((f, INF, ONE) for f in (F.softplus, F.silu, F.gelu, F.mish, _tanh_gelu, F.relu, F.hardswish)),
    *((f, INF, ONE) for f in (F.elu, F.celu, F.tanhshrink)),
    (F.tanhshrink, -INF, ONE),
    (F.logsigmoid, INF, ZERO),
    (F.logsigmoid, -INF, ONE),
    (torch.special.erfcx, INF, ZERO),
    (torch.special.log_ndtr, INF, ZERO),
    (torch.special.log_ndtr, -INF, (INF, -1, 0)),
    *((f, INF, GROWS) for f in (torch.exp, torch.exp2, torch.expm1, torch.sinh, torch.cosh)),
    *((f, INF, ZERO) for f in (torch.log, torch.log2, torch.log10, torch.log1p, torch.sqrt)),
    *((f, INF, ZERO) for f in (torch.rsqrt, torch.reciprocal, torch.acosh, torch.digamma)),
    (torch.lgamma, INF, (INF, 0, 0)),
    *((f, 0.0, ALTERNATES) for f in (torch.log, torch.log2, torch.log10, torch.sqrt, torch.logit)),
    (torch.log1p, -1.0, ALTERNATES),
    (torch.acosh, 1.0, ALTERNATES),
    (torch.digamma, 0.0, ALTERNATES),
    (torch.lgamma, 0.0, (-INF, INF, -INF)),
    (torch.rsqrt, 0.0, (-INF, INF, -INF)),
    (torch.reciprocal, 0.0, (-INF, INF, -INF)),
    (torch.reciprocal, -0.0, (-INF, -INF, -INF)),
    *((f, 1.0, GROWS) for f in (torch.atanh, torch.asin, torch.logit)),
    (torch.erfinv, 1.0, GROWS),
    (torch.special.ndtri, 1.0, GROWS),
    (torch.special.ndtri, 0.0, ALTERNATES),
    (torch.acos, 1.0, (-INF, -INF, -INF)),
    *((torch.sinc, x, (0, -(math.pi**2) / 3, 0)) for x in (0.0, -0.0)),
    *((torch.special.spherical_bessel_j0, x, (0, -1 / 3, 0)) for x in (0.0, -0.0)),
    *((torch.special.spherical_bessel_j0, x, ZERO) for x in (INF, -INF)),
    *((f, x, (1, 0, -1)) for f in (torch.sin, torch.asinh) for x in (0.0, -0.0, 5e-324, -1e-310)),
    *((f, x, (1, 0, -2)) for f in (torch.tanh, torch.atan) for x in (0.0, -0.0, 5e-324, -1e-310)),
    *((torch.tan, x, (1, 0, 2)) for x in (0.0, -0.0, 5e-324, -1e-310)),
    *((torch.atanh, x, (1, 0, 2)) for x in (0.0, -0.0, 5e-324, -1e-310)),
    *((torch.sigmoid, x, (0.25, 0, -0.125)) for x in (0.0, -0.0, 5e-324, -1e-310)),
    *((torch.exp, x, (1, 1, 1)) for x in (0.0, -0.0, 5e-324, -1e-310)),
    *((F.tanhshrink, x, (0, 0, 2)) for x in (0.0, -0.0, 5e-324, -1e-310)),
    *((F.gelu, x, (0.5, math.sqrt(2 / math.pi), 0)) for x in (0.0, -0.0, 5e-324, -1e-310)),
    *((F.silu, x, (0.5, 0.5, 0)) for x in (0.0, -0.0, 5e-324, -1e-310)),
]


@pytest.mark.parametrize(("f", "x", "expected"), LIMITS, ids=lambda a: getattr(a, "__name__", None))
def test_derivatives_at_infinity_and_at_the_borders_of_the_domain(
    f: Callable, x: float, expected: tuple[float, ...]
) -> None:
    """To within the derivative's change over a subnormal argument, which rounds to 0 or not."""
    assert derivatives(f, x) == pytest.approx(expected, rel=1e-15, abs=1e-300)
    if x == 0 or math.isinf(x):
        single = derivatives(f, x, dtype=torch.float32)
        assert single == pytest.approx(expected, rel=1e-6, abs=1e-37)


@pytest.mark.parametrize("f", [torch.atan, torch.asinh])
@pytest.mark.parametrize("x", [INF, -INF])
def test_nan_at_infinity_as_in_torch(f: Callable, x: float) -> None:
    assert derivatives(f, x) == pytest.approx([0, NAN, NAN], nan_ok=True)
    assert by_torch(f, x, 3) == pytest.approx([0, NAN, NAN], nan_ok=True)


def test_nan_at_infinity_only_where_torch_has_it_too() -> None:
    for name, x, ours, torchs in at_infinity():
        for k, (here, there) in enumerate(zip(ours, torchs, strict=True), 1):
            assert not math.isnan(here) or not math.isfinite(there), f"{name} at {x}: order {k}"


@pytest.mark.parametrize(
    "f", [F.elu, F.celu, F.selu, F.silu, F.gelu, F.mish, torch.tanh, torch.erf]
)
def test_nan_stays_nan(f: Callable) -> None:
    y = f(tt.TaylorTensor(torch.tensor([NAN, 0.5], dtype=F64), order=3))
    assert [c.isnan().tolist() for c in y.coeffs[:1]] == [[True, False]]
    assert all(not math.isnan(c[1]) for c in y.coeffs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("f", [F.silu, F.gelu, F.mish, _tanh_gelu, torch.tanh, torch.sigmoid])
def test_activations_saturate_in_half_precision(f: Callable, dtype: torch.dtype) -> None:
    x = torch.tensor([200.0, 3e4, INF], dtype=dtype)
    slope = 0.0 if f in (torch.tanh, torch.sigmoid) else 1.0
    y = f(tt.TaylorTensor(torch.cat([x, -x]), order=3))
    assert y.coeffs[1].abs().tolist() == [slope] * 3 + [0.0] * 3
    for c in y.coeffs[2:]:
        assert not c.any()


@pytest.mark.parametrize("scale", [1e-200, 1e-160, 1e160, 1e200])
def test_atan2_and_hypot_where_squares_leave_the_range(scale: float) -> None:
    y = torch.tensor([3.0, -3.0], dtype=F64) * scale
    x = torch.tensor([4.0, 4.0], dtype=F64) * scale
    angle = torch.atan2(tt.TaylorTensor(y, order=1), x).coeffs[1]
    torch.testing.assert_close(angle * scale, torch.full((2,), 4 / 25, dtype=F64))
    turned = torch.atan2(y, tt.TaylorTensor(x, order=1)).coeffs[1]
    torch.testing.assert_close(turned * scale, torch.tensor([-3 / 25, 3 / 25], dtype=F64))
    length = torch.hypot(tt.TaylorTensor(y, order=1), x).coeffs[1]
    torch.testing.assert_close(length, torch.tensor([0.6, -0.6], dtype=F64))


def test_asinh_where_the_square_overflows() -> None:
    for dtype, x in ((F64, 1e200), (torch.float32, 1e25)):
        for sign in (1, -1):
            first, second, _ = derivatives(torch.asinh, sign * x, dtype=dtype)
            assert first * x == pytest.approx(1, rel=1e-6)
            assert second == 0


EVERYWHERE: dict[str, tuple[Callable, list[float]]] = {
    "erfcx": (torch.special.erfcx, [-3.0, 0.0, 0.9, 1.1, 4.0, 50.0]),
    "log_ndtr": (torch.special.log_ndtr, [-60.0, -11.0, -2.0, -0.5, 0.5, 4.0]),
    "digamma": (torch.digamma, [-2.3, -0.4, 0.3, 4.0, 30.0]),
    "lgamma": (torch.lgamma, [-2.3, -0.4, 0.3, 4.0, 30.0]),
    "mish": (F.mish, [-30.0, -1.0, 0.0, 1.0, 15.0, 30.0]),
    "silu": (F.silu, [-30.0, -1.0, 0.0, 1.0, 30.0]),
    "gelu": (F.gelu, [-9.0, -1.0, 0.0, 1.0, 9.0]),
    "gelu tanh": (_tanh_gelu, [-9.0, -1.0, 0.0, 1.0, 9.0]),
    "asin": (torch.asin, [-0.99, 0.0, 0.5, 0.99]),
    "atanh": (torch.atanh, [-0.99, 0.0, 0.5, 0.99]),
    "asinh": (torch.asinh, [-1e5, -1.0, 0.0, 3.0]),
    "softsign": (F.softsign, [-1e4, -1.0, 2.0]),
    "tanhshrink": (F.tanhshrink, [-3.0, 0.0, 1e-4, 2.0]),
    "hardswish": (F.hardswish, [-5.0, -1.0, 2.0, 5.0]),
    "expm1": (torch.expm1, [-30.0, -1.0, 0.0, 2.0]),
    "sinc": (torch.sinc, [-5.3, -0.3, 0.2, 0.9, 1.1, 4.2]),
    "i0e": (torch.special.i0e, [-30.0, -3.0, 3.0, 30.0]),
    "i1e": (torch.special.i1e, [-30.0, -3.0, 3.0, 30.0]),
    "k0e": (torch.special.scaled_modified_bessel_k0, [1.0, 10.0, 30.0]),
    "k1e": (torch.special.scaled_modified_bessel_k1, [1.0, 10.0, 30.0]),
}


@pytest.mark.parametrize("name", EVERYWHERE)
def test_the_gradient_of_a_coefficient_is_the_next_one_on_every_branch(name: str) -> None:
    """``d c_k / d x_0 = (k + 1) c_{k+1}`` by autograd; a NaN of a branch not taken would show."""
    f, points = EVERYWHERE[name]
    x = torch.tensor(points, dtype=F64, requires_grad=True)
    coeffs = f(tt.TaylorTensor(x, order=3)).coeffs
    for k in (1, 2):
        total = coeffs[k].sum() + 0 * x.sum()  # a constant coefficient has no graph
        (gradient,) = torch.autograd.grad(total, x, retain_graph=True)
        expected = (k + 1) * coeffs[k + 1]
        scale = expected.abs() + coeffs[k].abs().clamp(max=1.0)
        assert ((gradient - expected).abs() <= 1e-9 * scale + 1e-300).all(), f"c_{k}"


@pytest.mark.parametrize("name", EVERYWHERE)
def test_nested_series_agree_on_every_branch(name: str) -> None:
    f, points = EVERYWHERE[name]
    x = torch.tensor(points, dtype=F64)
    once = f(tt.TaylorTensor(x, order=3)).derivatives
    inner = f(tt.TaylorTensor(tt.TaylorTensor(x, order=1), order=2)).derivatives
    for k in range(3):
        scale = once[k + 1].abs() + once[k].abs().clamp(max=1.0)
        assert ((inner[k].derivatives[1] - once[k + 1]).abs() <= 1e-9 * scale + 1e-300).all(), k


def test_the_tails_that_users_asked_about() -> None:
    """To all digits, from closed forms in 50 digits."""
    cases: list[tuple[Callable, float, int, float]] = [
        (F.silu, 40.41, 2, -1.0829397459861354e-16),
        (F.logsigmoid, 40.0, 2, -4.248354255291589e-18),
        (F.logsigmoid, -40.0, 2, -4.248354255291589e-18),
        (torch.expm1, -40.0, 2, 4.248354255291589e-18),
        (F.elu, -40.0, 2, 4.248354255291589e-18),
    ]
    for f, x, k, expected in cases:
        assert derivatives(f, x)[k - 1] == pytest.approx(expected, rel=2e-15)
