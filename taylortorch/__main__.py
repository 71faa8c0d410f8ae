"""``python -m taylortorch``: versions, devices, and a self-check of a few seconds.

Every check compares with something that knows nothing of series: closed forms, or reverse mode over
reverse mode. On each device and in each precision that is there.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

import taylortorch as tt

from .engine.private import can_compile
from .patches.probes import probed

LIMIT = 10.0
"""Seconds after which the checks that are left are skipped, unless ``--limit`` says otherwise."""

TRACING = 4.0
"""Seconds that are kept for the first use of ``torch.compile``, which imports its compiler."""

TOLERANCES = {torch.float32: 5e-5, torch.float64: 1e-12}
"""The error allowed in an entry, relative to the largest one, or to 0.1 if that is smaller."""

Pairs = Iterator[tuple[str, torch.Tensor, Any]]
"""What is compared, the numbers that were got, and the ones expected."""

Options = dict[str, Any]
"""The device and dtype, as ``torch.tensor`` takes them."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of one check: ``ok``, ``FAILED`` or ``skipped``, and why."""

    status: str
    check: str
    device: str
    dtype: str
    detail: str

    def __str__(self) -> str:
        return (
            f"{self.status:8}{self.device:6}{self.dtype:9}{self.check}"
            f"{': ' if self.detail else ''}{self.detail}"
        )


# --- the checks ---------------------------------------------------------------------------------


def _power(p: float) -> Callable[[float], list[float]]:
    return lambda x: [math.prod(p - i for i in range(k)) * x ** (p - k) for k in range(5)]


def _tanh(x: float) -> list[float]:
    y = math.tanh(x)
    slope = 1 - y * y
    return [y, slope, -2 * y * slope, (6 * y**2 - 2) * slope, (16 * y - 24 * y**3) * slope]


def _sigmoid(x: float) -> list[float]:
    y = 1 / (1 + math.exp(-x))
    p = y * (1 - y)
    return [y, p, p * (1 - 2 * y), p * (1 - 6 * p), p * (1 - 2 * y) * (1 - 12 * p)]


def _erf(x: float) -> list[float]:
    slope = 2 / math.sqrt(math.pi) * math.exp(-x * x)
    return [math.erf(x), *(c * slope for c in (1, -2 * x, 4 * x**2 - 2, 12 * x - 8 * x**3))]


def _atan(x: float) -> list[float]:
    q = 1 / (1 + x * x)
    return [math.atan(x), q, -2 * x * q**2, (6 * x**2 - 2) * q**3, 24 * x * (1 - x**2) * q**4]


# the function, and its value and first four derivatives in closed form
FUNCTIONS: dict[str, tuple[Callable[[Any], Any], Callable[[float], list[float]]]] = {
    "exp": (torch.exp, lambda x: [math.exp(x)] * 5),
    "log": (torch.log, lambda x: [math.log(x), *_power(-1)(x)[:4]]),
    "sin": (torch.sin, lambda x: [math.sin(x + k * math.pi / 2) for k in range(5)]),
    "cos": (torch.cos, lambda x: [math.cos(x + k * math.pi / 2) for k in range(5)]),
    "tanh": (torch.tanh, _tanh),
    "sigmoid": (torch.sigmoid, _sigmoid),
    "softplus": (
        torch.nn.functional.softplus,
        lambda x: [math.log1p(math.exp(x)), *_sigmoid(x)[:4]],
    ),
    "erf": (torch.erf, _erf),
    "atan": (torch.atan, _atan),
    "sqrt": (torch.sqrt, _power(0.5)),
    "x ** 5": (lambda x: x**5, _power(5)),
    "1 / x": (lambda x: 1 / x, _power(-1)),
}


def closed_forms(options: Options) -> Pairs:
    points = [0.3, 0.7, 1.2]
    x = tt.TaylorTensor(torch.tensor(points, **options), order=4)
    for name, (function, closed) in FUNCTIONS.items():
        expected = zip(*map(closed, points), strict=True)
        for k, (got, exact) in enumerate(zip(function(x).derivatives, expected, strict=True)):
            yield f"derivative {k} of {name}", got, exact


def _network(options: Options) -> tuple[torch.nn.Module, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = (torch.nn.Linear(3, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
        return torch.nn.Sequential(*layers).to(**options), torch.rand(5, 3).to(**options)


def _slope(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(y.sum(), x, create_graph=True)[0]


def nested_autograd(options: Options) -> Pairs:
    network, x = _network(options)
    got = network(tt.TaylorTensor(x, order=3)).derivatives
    t = torch.zeros(5, 1, **options, requires_grad=True)
    expected = network(x + t)
    for k in range(4):
        yield f"derivative {k}", got[k], expected
        expected = _slope(expected, t)


def laplacian(options: Options) -> Pairs:
    network, x = _network(options)
    got, value = tt.func.laplacian(network, return_value=True)(x)
    yield "value", value, network(x)
    x.requires_grad_()
    slopes = _slope(network(x), x)
    second = [_slope(slopes[:, i], x)[:, i] for i in range(3)]
    yield "Laplacian", got[:, 0], torch.stack(second).sum(0)


def parameters(options: Options) -> Pairs:
    network, x = _network(options)
    weights = list(network.parameters())
    second = network(tt.TaylorTensor(x)).derivatives[2]
    got = torch.autograd.grad((second**2).sum(), weights, allow_unused=True)
    t = torch.zeros(5, 1, **options, requires_grad=True)
    second = _slope(_slope(network(x + t), t), t)
    expected = torch.autograd.grad((second**2).sum(), weights, allow_unused=True)
    for (name, weight), one, other in zip(network.named_parameters(), got, expected, strict=True):
        # the bias of the last layer is in no derivative
        zero = torch.zeros_like(weight)
        yield f"gradient of {name}", zero if one is None else one, zero if other is None else other


def variables(options: Options) -> Pairs:
    x0, t0 = torch.rand(2, 5, 1, generator=torch.Generator().manual_seed(0)).to(**options)
    x, t = tt.variables(x0, t0, order=3)
    u = torch.sin(3 * x) * torch.exp(-9 * t)
    yield "u_t - u_xx", tt.d(u, t).value - tt.d(u, x, x).value, torch.zeros_like(x0)
    yield "u_xxt", tt.d(u, x, x, t).value, 81 * torch.sin(3 * x0) * torch.exp(-9 * t0)


def differential_equation(options: Options) -> Pairs:
    times = torch.tensor([0.0, 1.0], **options)
    y0 = torch.tensor([1.0, 0.0], **options)
    got = tt.odeint_taylor(lambda t, y: torch.stack([-y[1], y[0]]), y0, times, rtol=1e-13)
    yield "y(1)", got[1], [math.cos(1), math.sin(1)]


def refusals(options: Options) -> Pairs:
    x = tt.TaylorTensor(torch.tensor(0.5, **options))
    with warnings.catch_warnings():
        # what torch thinks of torch.jit
        warnings.simplefilter("ignore")
        scripted = torch.jit.trace(torch.nn.Tanh(), torch.ones((), **options))
    for name, ask in (
        ("x.item()", lambda: x.item()),
        ("numpy.sin(x)", lambda: np.sin(x)),
        ("a traced module", lambda: scripted(x)),
    ):
        try:
            ask()
        except (tt.UnsupportedFunction, TypeError):
            continue
        raise AssertionError(f"{name} dropped the derivatives without an error")
    yield "x.value", x.value, 0.5


def mapped(options: Options) -> Pairs:
    points = torch.tensor([[0.3, 0.7], [1.2, 0.1]], **options)
    sine, cosine = torch.vmap(lambda x: (x.sin(), x.cos()), in_dims=1)(tt.TaylorTensor(points))
    yield "derivative 1 of sin", sine.derivatives[1], torch.cos(points).T
    yield "derivative 1 of cos", cosine.derivatives[1], -torch.sin(points).T


def traced(options: Options) -> Pairs:
    network, x = _network(options)

    def second(x: torch.Tensor) -> torch.Tensor:
        return network(tt.TaylorTensor(x)).derivatives[2]

    yield "derivative 2", torch.compile(second, backend="eager", fullgraph=True)(x), second(x)
    yield from probed()


CHECKS: dict[str, Callable[[Options], Pairs]] = {
    f"{len(FUNCTIONS)} functions at order 4, closed forms": closed_forms,
    "a network at order 3, nested autograd": nested_autograd,
    "Laplacian of a network, nested autograd": laplacian,
    "gradients of parameters, nested autograd": parameters,
    "partial derivatives, closed forms": variables,
    "a differential equation, closed form": differential_equation,
    "torch.vmap, closed form": mapped,
    "what would lose derivatives raises": refusals,
}
COMPILED = "torch.compile(fullgraph=True), traced"


# --- running them -------------------------------------------------------------------------------


def devices() -> list[str]:
    """The CPU, and the accelerator that torch sees."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return ["cpu"] if accelerator is None else ["cpu", accelerator.type]


def _on_cpu(x: Any) -> torch.Tensor:
    # in this order: some devices have no double precision
    if isinstance(x, torch.Tensor):
        return x.detach().cpu().double()
    return torch.tensor(x, dtype=torch.float64)


def run_check(name: str, check: Callable[[Options], Pairs], options: Options) -> Outcome:
    """Run one check. Whatever it raises is a failure."""
    where = (name, options["device"], str(options["dtype"]).removeprefix("torch."))
    tolerance, worst = TOLERANCES[options["dtype"]], 0.0
    try:
        for what, got, expected in check(options):
            got, expected = _on_cpu(got), _on_cpu(expected)
            if got.shape != expected.shape:
                raise AssertionError(
                    f"{what} has shape {list(got.shape)}, not {list(expected.shape)}"
                )
            size = max(0.1, float(expected.abs().max()))
            error = float((got - expected).abs().max()) / size
            # a NaN is no error that is small
            if not error <= tolerance:
                raise AssertionError(f"{what}: got {got.tolist()}, expected {expected.tolist()}")
            worst = max(worst, error)
    except Exception as failure:
        text = f"{type(failure).__name__}: {failure}".removeprefix("AssertionError: ")
        return Outcome("FAILED", *where, text)
    return Outcome("ok", *where, f"to {worst:.0e}" if worst else "")


def outcomes(limit: float = LIMIT) -> Iterator[Outcome]:
    """The checks on each device, in each precision; what no time is left for is skipped."""
    start = time.monotonic()

    def left() -> float:
        return limit - (time.monotonic() - start)

    late = f"{limit:.0f} seconds are over"
    for device in devices():
        for dtype in TOLERANCES:
            options: Options = {"device": device, "dtype": dtype}
            kept = str(dtype).removeprefix("torch.")
            try:
                torch.ones((), **options)
            except (TypeError, RuntimeError) as reason:
                yield Outcome("skipped", "all checks", device, kept, str(reason).split("\n")[0])
                continue
            for name, check in CHECKS.items():
                if left() > 0:
                    yield run_check(name, check, options)
                else:
                    yield Outcome("skipped", name, device, kept, late)
    if left() < TRACING:
        yield Outcome("skipped", COMPILED, "cpu", "float64", "not enough time is left")
    elif not can_compile():
        yield Outcome("skipped", COMPILED, "cpu", "float64", "not available for this Python")
    else:
        yield run_check(COMPILED, traced, {"device": "cpu", "dtype": torch.float64})


def versions() -> dict[str, str]:
    """What a report of a failure must say."""
    return {
        "taylortorch": tt.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status is 1 if a check fails, 0 otherwise."""
    parser = argparse.ArgumentParser(
        prog="python -m taylortorch", description="Versions, devices, and a self-check."
    )
    parser.add_argument("--no-check", action="store_true", help="versions and devices only")
    parser.add_argument("--json", action="store_true", help="print everything as one JSON object")
    parser.add_argument(
        "--limit",
        type=float,
        default=LIMIT,
        metavar="SECONDS",
        help=f"skip the checks that are left after so long (default: {LIMIT:.0f})",
    )
    given = parser.parse_args(arguments)
    say: Callable[..., None] = (lambda *_: None) if given.json else print

    functions = sum(map(len, tt.supported().values()))
    say(*(f"{name} {version}  " for name, version in versions().items()))
    say(f"devices: {', '.join(devices())}")
    say(f"functions with a rule: {functions} (taylortorch.supported())")
    found: list[Outcome] = []
    start = time.monotonic()
    if not given.no_check:
        say()
        for outcome in outcomes(given.limit):
            say(outcome)
            found.append(outcome)
    count = {
        status: sum(o.status == status for o in found) for status in ("ok", "FAILED", "skipped")
    }
    if given.json:
        report = {
            "versions": versions(),
            "devices": devices(),
            "functions": functions,
            "checks": [dataclasses.asdict(o) for o in found],
        }
        print(json.dumps(report, indent=2))
    elif found:
        say(
            f"\n{count['ok']} checks passed, {count['FAILED']} failed, {count['skipped']} skipped, "
            f"in {time.monotonic() - start:.1f} s"
        )
    if count["FAILED"]:
        print(
            "\nDerivatives are wrong here. Please report it, with all of the above, what\n"
            "python -m torch.utils.collect_env prints, and how torch was installed.",
            file=sys.stderr,
        )
    return 1 if count["FAILED"] else 0


if __name__ == "__main__":
    sys.exit(main())
