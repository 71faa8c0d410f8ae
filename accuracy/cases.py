"""The functions on the page: a row is torch's function, its reference, and where it is measured."""

from __future__ import annotations

from typing import Any

import mpmath as mp
import torch
import torch.nn.functional as F

from .domains import Case
from .exact import by_piece, from_slope, power
from .functions import (
    angle,
    bessel,
    cos,
    cosh,
    erfc,
    erfinv,
    exp,
    expm1,
    gammainc,
    gelu_tanh,
    identity,
    lgamma,
    log,
    mish,
    ndtri,
    normal,
    polygamma,
    scaled,
    selu,
    sigmoid,
    sin,
    sinh,
    softplus,
    softsign,
    tanh,
    zero,
    zeta,
)

BODY, POSITIVE = "[-2, 2]", "[0.5, 2]"
SMALL = "1e-300 ... 1e-3 | 1e-37 ... 1e-3"
ANY = "1e-300 ... 1e300 | 1e-37 ... 1e37"
LARGE = "2 ... 1e300 | 2 ... 1e37"
LEFT, RIGHT = "[-700, -2] | [-86, -2]", "[2, 700] | [2, 86]"
BELOW_1 = "1 - (1e-15 ... 0.1) | 1 - (1e-6 ... 0.1)"
ABOVE_MINUS_1 = "-1 + (1e-15 ... 0.1) | -1 + (1e-6 ... 0.1)"
SIN = f"[-4, 4]; [-1e4, 1e4]; 1e4 ... 1e15 | 1e4 ... 1e7; {SMALL}"
ARC = f"[-0.9, 0.9]; {BELOW_1}; {ABOVE_MINUS_1}; {SMALL}"
NORMAL = "[2, 37] | [2, 13]; [-37, -2] | [-13, -2]"
POWER = f"{POSITIVE}; 1e-40 ... 1e40 | 1e-5 ... 1e5"
SCALED = "[2, 25] | [2, 12]; [25, 700] | [12, 85]; 700 ... 1e6"
GAMMA_RANGE = "5 ... 1e15 | 5 ... 1e7; [-0.95, -0.05]; [-9.9, -1.1]"
CURVE = (1.0, -0.5)


def _like(x: Any, number: float) -> torch.Tensor:
    return torch.full(tuple(x.shape), number, dtype=x.dtype)


def _two(x: Any) -> Any:
    return x * mp.log(2)


EXPONENTIAL = [
    Case("exp", torch.exp, exp, f"{BODY}; [-700, 709] | [-86, 88]"),
    Case(
        "exp2",
        torch.exp2,
        lambda x: exp(_two(x)),
        f"{BODY}; [-1020, 1023] | [-124, 127]",
    ),
    Case(
        "2.5**x",
        lambda x: 2.5**x,
        lambda x: exp(x * mp.log(2.5)),
        f"{BODY}; [-760, 770] | [-94, 96]",
    ),
    Case("expm1", torch.expm1, expm1, f"{BODY}; {LEFT}; {RIGHT}; {SMALL}"),
    Case("log", torch.log, log, f"{POSITIVE}; {ANY}", 0),
    Case("log2", torch.log2, lambda x: log(x) / mp.log(2), f"{POSITIVE}; {ANY}", 0),
    Case("log10", torch.log10, lambda x: log(x) / mp.log(10), f"{POSITIVE}; {ANY}", 0),
    Case(
        "log1p",
        torch.log1p,
        lambda x: log(1 + x),
        f"[-0.5, 2]; {SMALL}; {LARGE}; -1 + (1e-15 ... 0.5) | -1 + (1e-7 ... 0.5)",
    ),
    Case("sigmoid", torch.sigmoid, sigmoid, f"{BODY}; {LEFT}; {RIGHT}; {SMALL}"),
    Case("logsigmoid", F.logsigmoid, lambda x: -softplus(-x), f"{BODY}; {LEFT}; {RIGHT}"),
    Case(
        "logit",
        torch.logit,
        lambda x: log(x) - log(1 - x),
        f"[0.1, 0.9]; 1e-70 ... 0.1 | 1e-8 ... 0.1; {BELOW_1}",
    ),
    *(
        Case(
            name,
            call,
            reference,
            f"{BODY} x {BODY}; [-300, 300] x [-300, 300] | [-40, 40] x [-40, 40]",
            curve=CURVE,
        )
        for name, call, reference in (
            ("logaddexp", torch.logaddexp, lambda x, y: log(exp(x) + exp(y))),
            (
                "logaddexp2",
                torch.logaddexp2,
                lambda x, y: log(exp(_two(x)) + exp(_two(y))) / _two(1),
            ),
        )
    ),
]
POWERS = [
    Case("reciprocal", torch.reciprocal, lambda x: 1 / x, f"{POSITIVE}; {ANY}; -1e-7 ... -1e7", 0),
    Case("1 / x", lambda x: 1 / x, lambda x: 1 / x, f"{POSITIVE}; {ANY}", 0),
    Case(
        "x / y",
        torch.div,
        lambda x, y: x / y,
        f"{BODY} x {POSITIVE}; 1e-5 ... 1e5 x 1e-5 ... 1e5",
        0,
        CURVE,
    ),
    Case(
        "x * y",
        torch.mul,
        lambda x, y: x * y,
        f"{BODY} x {BODY}; 1e-9 ... 1e9 x 1e-9 ... 1e9",
        0,
        CURVE,
    ),
    Case("square", torch.square, lambda x: x**2, f"{BODY}; 1e-150 ... 1e150 | 1e-18 ... 1e18", 0),
    Case("sqrt", torch.sqrt, lambda x: x**0.5, f"{POSITIVE}; {ANY}", 0),
    Case("rsqrt", torch.rsqrt, lambda x: x**-0.5, f"{POSITIVE}; {ANY}", 0),
    *(
        Case(f"x**{p}", lambda x, p=p: x**p, lambda x, p=p: power(x, p), POWER + more, 0)
        for p, more in (
            (3, f"; {BODY}"),
            (7, f"; {BODY}"),
            (-2, ""),
            (0.5, ""),
            (2.5, ""),
            (-1.5, ""),
            (0.3, ""),
        )
    ),
    Case(
        "x**y",
        torch.pow,
        lambda x, y: exp(log(x) * y),
        f"{POSITIVE} x {BODY}; 1e-4 ... 1e4 x [-8, 8]",
        0,
        CURVE,
    ),
    Case(
        "hypot",
        torch.hypot,
        lambda x, y: (x**2 + y**2) ** 0.5,
        f"{POSITIVE} x {POSITIVE}; 1e-10 ... 1e10 x 1e-10 ... 1e10; "
        "1e150 ... 1e200 x 1e150 ... 1e200 | 1e18 ... 1e30 x 1e18 ... 1e30",
        0,
        CURVE,
    ),
    Case(
        "xlogy",
        torch.xlogy,
        lambda x, y: x * log(y),
        f"{BODY} x {POSITIVE}; 1e-8 ... 1 x 1e-8 ... 1",
        0,
        CURVE,
    ),
    Case(
        "special.xlog1py",
        torch.special.xlog1py,
        lambda x, y: x * log(1 + y),
        f"{BODY} x [-0.5, 2]; 1e-8 ... 1 x 1e-8 ... 1",
        1,
        CURVE,
    ),
    Case("special.entr", torch.special.entr, lambda x: -x * log(x), f"[0.1, 3]; {ANY}", 0),
]
CIRCULAR = [
    Case("sin", torch.sin, sin, SIN),
    Case("cos", torch.cos, cos, SIN),
    Case(
        "tan",
        torch.tan,
        lambda x: sin(x) / cos(x),
        f"[-1.5, 1.5]; [-1e4, 1e4]; 1.5707963 + (1e-6 ... 0.01); {SMALL}",
    ),
    Case("asin", torch.asin, from_slope(mp.asin, lambda x: (1 - x**2) ** -0.5), ARC),
    Case("acos", torch.acos, from_slope(mp.acos, lambda x: -((1 - x**2) ** -0.5)), ARC),
    Case(
        "atan",
        torch.atan,
        from_slope(mp.atan, lambda x: 1 / (1 + x**2)),
        f"{BODY}; 2 ... 1e150 | 2 ... 1e18; -2 ... -1e10; {SMALL}",
    ),
    Case(
        "atan2",
        torch.atan2,
        angle,
        f"{BODY} x {POSITIVE}; 1e-10 ... 1e10 x 1e-10 ... 1e10; "
        "1e-75 ... 1e-65 x 1e-75 ... 1e-65 | 1e-9 ... 1e-7 x 1e-9 ... 1e-7; "
        "1e150 ... 1e200 x 1e150 ... 1e200 | 1e18 ... 1e30 x 1e18 ... 1e30",
        0,
        CURVE,
    ),
    Case(
        "sinc",
        torch.sinc,
        lambda x: sin(x * mp.pi) / (x * mp.pi),
        f"{BODY}; [2, 100]; 1e-30 ... 1e-2",
    ),
]
HYPERBOLIC = [
    Case("sinh", torch.sinh, sinh, f"{BODY}; [-700, 700] | [-86, 86]; {SMALL}"),
    Case("cosh", torch.cosh, cosh, f"{BODY}; [-700, 700] | [-86, 86]; {SMALL}"),
    Case("tanh", torch.tanh, tanh, f"{BODY}; [2, 18] | [2, 8]; [-350, -20] | [-43, -10]; {SMALL}"),
    Case(
        "asinh",
        torch.asinh,
        from_slope(mp.asinh, lambda x: (1 + x**2) ** -0.5),
        f"{BODY}; {LARGE}; -2 ... -1e10; {SMALL}",
    ),
    Case(
        "acosh",
        torch.acosh,
        from_slope(mp.acosh, lambda x: (x - 1) ** -0.5 * (x + 1) ** -0.5),
        f"[1.1, 3]; {LARGE}; 1 + (1e-15 ... 0.1) | 1 + (1e-6 ... 0.1)",
    ),
    Case("atanh", torch.atanh, from_slope(mp.atanh, lambda x: 1 / (1 - x**2)), ARC),
]
ERROR = [
    Case("erf", torch.erf, lambda x: 1 - erfc(x), f"{BODY}; [2, 26] | [2, 9]; 30 ... 1e5; {SMALL}"),
    Case("erfc", torch.erfc, erfc, f"{BODY}; [2, 26] | [2, 9]; [-26, -2] | [-9, -2]"),
    Case(
        "special.erfcx",
        torch.special.erfcx,
        lambda x: exp(x**2) * erfc(x),
        f"{BODY}; [2, 10]; 10 ... 1e60 | 10 ... 1e7; [-26, -2] | [-9, -2]",
    ),
    Case("erfinv", torch.erfinv, erfinv, ARC),
    Case("special.ndtr", torch.special.ndtr, normal, f"{BODY}; {NORMAL}"),
    Case(
        "special.log_ndtr",
        torch.special.log_ndtr,
        lambda x: log(normal(x)),
        f"{BODY}; {NORMAL}; -40 ... -1e10 | -40 ... -1e6",
    ),
    Case(
        "special.ndtri",
        torch.special.ndtri,
        ndtri,
        f"[0.1, 0.9]; 1e-60 ... 0.1 | 1e-7 ... 0.1; {BELOW_1}",
    ),
]
ACTIVATIONS = [
    Case(
        "softplus",
        F.softplus,
        by_piece((20, softplus), (mp.inf, identity)),
        f"{BODY}; [2, 25]; {LEFT}",
    ),
    Case(
        "softplus(x, beta=3, threshold=10)",
        lambda x: F.softplus(x, 3.0, 10.0),
        by_piece((10 / 3, lambda x: softplus(3 * x) / 3), (mp.inf, identity)),
        f"{BODY}; [2, 5]; [-230, -2] | [-27, -2]",
    ),
    Case(
        "gelu",
        F.gelu,
        lambda x: x * normal(x),
        f"{BODY}; {NORMAL}; 40 ... 1e100 | 40 ... 1e37; {SMALL}",
    ),
    Case(
        "gelu(x, approximate='tanh')",
        lambda x: F.gelu(x, approximate="tanh"),
        gelu_tanh,
        f"{BODY}; [2, 20] | [2, 9]; [-20, -2] | [-9, -2]; 40 ... 1e12; -40 ... -1e12; {SMALL}",
    ),
    Case(
        "silu", F.silu, lambda x: x * sigmoid(x), f"{BODY}; {LEFT}; {RIGHT}; 1e3 ... 1e12; {SMALL}"
    ),
    Case("mish", F.mish, mish, f"{BODY}; [2, 350] | [2, 43]; {LEFT}; {SMALL}"),
    Case("elu", F.elu, by_piece((0, expm1), (mp.inf, identity)), f"{BODY}; {LEFT}"),
    Case(
        "celu(x, 0.7)",
        lambda x: F.celu(x, 0.7),
        by_piece((0, lambda x: mp.mpf(0.7) * expm1(x / mp.mpf(0.7))), (mp.inf, identity)),
        f"{BODY}; [-480, -2] | [-60, -2]",
    ),
    Case("selu", F.selu, selu, f"{BODY}; {LEFT}"),
    Case("softsign", F.softsign, softsign, f"{BODY}; {LARGE}; -2 ... -1e10; {SMALL}"),
    Case(
        "tanhshrink",
        F.tanhshrink,
        lambda x: x - tanh(x),
        f"{BODY}; [2, 18] | [2, 8]; 1e-60 ... 0.01 | 1e-12 ... 0.01",
    ),
    *(
        Case(name, getattr(F, name), by_piece(*pieces), "[-8, 8]")
        for name, pieces in {
            "hardswish": ((-3, zero), (3, lambda x: x * (x + 3) / 6), (mp.inf, identity)),
            "hardsigmoid": ((-3, zero), (3, lambda x: (x + 3) / 6), (mp.inf, lambda x: 0 * x + 1)),
            "relu": ((0, zero), (mp.inf, identity)),
            "relu6": ((0, zero), (6, identity), (mp.inf, lambda x: 0 * x + 6)),
            "leaky_relu": ((0, lambda x: x * mp.mpf(0.01)), (mp.inf, identity)),
            "hardtanh": ((-1, lambda x: 0 * x - 1), (1, identity), (mp.inf, lambda x: 0 * x + 1)),
            "hardshrink": ((-0.5, identity), (0.5, zero), (mp.inf, identity)),
            "softshrink": ((-0.5, lambda x: x + 0.5), (0.5, zero), (mp.inf, lambda x: x - 0.5)),
        }.items()
    ),
    Case("abs", torch.abs, by_piece((0, lambda x: -x), (mp.inf, identity)), f"{BODY}; {ANY}"),
]
GAMMA = [
    Case(
        "lgamma",
        torch.lgamma,
        lgamma,
        f"[0.5, 5]; 1e-70 ... 0.1 | 1e-8 ... 0.1; {GAMMA_RANGE}",
    ),
    Case(
        "digamma",
        torch.digamma,
        polygamma(0),
        f"[0.5, 5]; 1e-60 ... 0.1 | 1e-7 ... 0.1; {GAMMA_RANGE}",
    ),
    *(
        Case(f"polygamma({n}, x)", lambda x, n=n: torch.polygamma(n, x), polygamma(n), domains)
        for n, domains in (
            (1, "[0.5, 5]; 1e-50 ... 0.1 | 1e-6 ... 0.1; 5 ... 1e15 | 5 ... 1e5"),
            (3, "[0.5, 5]; 1e-30 ... 0.1 | 1e-4 ... 0.1; 5 ... 1e10 | 5 ... 1e4"),
        )
    ),
    Case(
        "mvlgamma(x, 3)",
        lambda x: torch.mvlgamma(x, 3),
        lambda x: sum((lgamma(x - mp.mpf(j) / 2) for j in range(3)), 1.5 * mp.log(mp.pi) + 0 * x),
        "[1.5, 10]; 10 ... 1e10 | 10 ... 1e5",
    ),
    Case(
        "special.zeta(2.5, x)",
        lambda x: torch.special.zeta(_like(x, 2.5), x),
        zeta(2.5),
        "[0.5, 5]; 1e-30 ... 0.1 | 1e-4 ... 0.1; 5 ... 1e10 | 5 ... 1e4",
    ),
    *(
        Case(
            f"special.gammainc({a}, x)",
            lambda x, a=a: torch.special.gammainc(_like(x, a), x),
            gammainc(a),
            f"[{a / 5:g}, {3 * a:g}]",
            a,
        )
        for a in (0.7, 2.5, 30.0)
    ),
]
BESSEL = [
    *(
        Case(f"special.{name}", getattr(torch.special, name), bessel(kind, nu), domains)
        for names, kind, domains in (
            (("bessel_j0", "bessel_j1"), "j", f"{BODY}; [2, 12]; [12, 300]"),
            (("bessel_y0", "bessel_y1"), "y", f"{POSITIVE}; [2, 12]; [12, 300]; 1e-5 ... 0.5"),
            (("i0", "i1"), "i", f"{BODY}; [2, 700] | [2, 85]"),
            (("modified_bessel_i0", "modified_bessel_i1"), "i", f"{BODY}; [2, 700] | [2, 85]"),
            (
                ("modified_bessel_k0", "modified_bessel_k1"),
                "k",
                f"{POSITIVE}; [2, 690] | [2, 80]; 1e-5 ... 0.5",
            ),
        )
        for nu, name in enumerate(names)
    ),
    *(
        Case(f"special.{name}", getattr(torch.special, name), scaled(kind, nu), f"{body}; {SCALED}")
        for names, kind, body in (
            (("i0e", "i1e"), "i", BODY),
            (("scaled_modified_bessel_k0", "scaled_modified_bessel_k1"), "k", POSITIVE),
        )
        for nu, name in enumerate(names)
    ),
    Case(
        "special.spherical_bessel_j0",
        torch.special.spherical_bessel_j0,
        lambda x: sin(x) / x,
        f"{BODY}; [2, 100]; 1e-30 ... 0.01",
    ),
]
POLYNOMIALS = [
    Case(
        f"special.{name}(x, 5)",
        lambda x, name=name: getattr(torch.special, name)(x, 5),
        reference,
        "[-0.9, 0.9]; [1.5, 5]",
    )
    for name, reference in {
        "chebyshev_polynomial_t": lambda x: 16 * x**5 - 20 * x**3 + 5 * x,
        "hermite_polynomial_h": lambda x: 32 * x**5 - 160 * x**3 + 120 * x,
        "laguerre_polynomial_l": lambda x: (
            (120 - 600 * x + 600 * x**2 - 200 * x**3 + 25 * x**4 - x**5) / 120
        ),
        "legendre_polynomial_p": lambda x: (63 * x**5 - 70 * x**3 + 15 * x) / 8,
    }.items()
]
GROUPS: dict[str, list[Case]] = {
    "Exponentials and logarithms": EXPONENTIAL,
    "Powers and quotients": POWERS,
    "Circular": CIRCULAR,
    "Hyperbolic": HYPERBOLIC,
    "Error functions": ERROR,
    "Activations": ACTIVATIONS,
    "Gamma functions": GAMMA,
    "Bessel functions": BESSEL,
    "Polynomials": POLYNOMIALS,
}
CASES = [case for group in GROUPS.values() for case in group]
