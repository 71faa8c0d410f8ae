"""``python -m taylortorch``: what it prints, and that it fails when something is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import taylortorch as tt
from taylortorch import __main__ as command
from taylortorch.engine.registry import RULES

# a busy machine must not skip what the test is about
UNHURRIED = 1e6
CPU64 = {"device": "cpu", "dtype": torch.float64}
ROOT = Path(__file__).parent.parent


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    # the tree under test, whether or not it is installed
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, "-m", "taylortorch", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


def test_as_a_command(tmp_path: Path) -> None:
    done = run("--limit", str(UNHURRIED), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    first = done.stdout.splitlines()[0].split()
    expected = ("taylortorch", tt.__version__, "torch", torch.__version__, "numpy", np.__version__)
    assert set(expected) <= set(first)
    assert "FAILED" not in done.stdout
    assert " 0 failed" in done.stdout
    for name in command.CHECKS:
        assert done.stdout.count(name) == len(command.TOLERANCES) * len(command.devices())


def test_without_the_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--no-check"]) == 0
    out = capsys.readouterr().out
    assert "devices: cpu" in out
    assert str(sum(map(len, tt.supported().values()))) in out
    assert "passed" not in out


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--json", "--limit", str(UNHURRIED)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["versions"]["taylortorch"] == tt.__version__
    statuses = {(c["check"], c["dtype"]): c["status"] for c in report["checks"]}
    assert set(command.CHECKS) <= {check for check, _ in statuses}
    assert {statuses[check, dtype] for check, dtype in statuses if dtype == "float64"} == {"ok"}
    assert "FAILED" not in statuses.values()


# --- that a fault is seen -------------------------------------------------------------------------


def failed(name: str) -> str:
    """What the named check says of the fault."""
    (check,) = [c for n, c in command.CHECKS.items() if name in n]
    outcome = command.run_check(name, check, CPU64)
    assert outcome.status == "FAILED"
    return outcome.detail


@pytest.mark.parametrize("name", command.FUNCTIONS)
def test_every_closed_form_is_compared(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    function, closed = command.FUNCTIONS[name]
    for k in range(5):

        def off(x: float, k: int = k) -> list[float]:
            return [c + 1e-6 * (i == k) for i, c in enumerate(closed(x))]

        monkeypatch.setitem(command.FUNCTIONS, name, (function, off))
        assert f"derivative {k} of {name}: got" in failed("functions")


def broken(function: Callable, **rule: Callable) -> None:
    tt.register_rule(function, replace=True, **rule)


def test_a_wrong_rule(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    broken(torch.tanh, derivative=lambda x: 1 - 1.001 * torch.tanh(x) ** 2)
    monkeypatch.setattr(command, "TRACING", float("inf"))
    assert command.main(["--limit", str(UNHURRIED)]) == 1
    printed = capsys.readouterr()
    lines = [line for line in printed.out.splitlines() if line.startswith("FAILED")]
    # of both precisions: the functions, the network, its Laplacian and its gradients
    assert len(lines) == 8
    assert "derivative 1 of tanh: got [" in printed.out
    assert "skipped cpu   float64  torch.compile" in printed.out
    assert "8 failed" in printed.out
    assert "Please report it" in printed.err


def test_a_missing_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(RULES, torch.erf)
    assert "UnsupportedFunction: torch.erf has no Taylor rule yet" in failed("functions")


def test_a_lost_gradient() -> None:
    def half(x: tt.TaylorTensor) -> tt.TaylorTensor:
        coefficients = (2 * torch.sigmoid(2 * x) - 1).coeffs
        return tt.TaylorTensor.from_coeffs([(c + c.detach()) / 2 for c in coefficients])

    broken(torch.tanh, composite=half)
    assert "gradient of 0.weight: got" in failed("gradients")


def test_a_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    broken(torch.sin, derivative=lambda x: torch.cos(x) * float("nan"))
    assert "u_t - u_xx: got" in failed("partial derivatives")


def test_a_wrong_solution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tt, "odeint_taylor", lambda f, y0, t, **_: torch.stack([y0, y0]))
    assert "y(1): got" in failed("differential equation")


def test_a_series_that_drops_its_derivatives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, torch.Tensor.item, lambda func, args, kwargs: 0.5)
    assert "x.item() dropped the derivatives" in failed("raises")


def test_what_no_time_is_left_for_is_skipped() -> None:
    found = list(command.outcomes(limit=0.0))
    assert {outcome.status for outcome in found} == {"skipped"}
    assert len(found) == 1 + len(command.CHECKS) * len(command.TOLERANCES) * len(command.devices())


def test_a_precision_that_a_device_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    ones = torch.ones

    def without_double(*args: object, **kwargs: object) -> torch.Tensor:
        if kwargs.get("dtype") is torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64")
        return ones(*args, **kwargs)

    monkeypatch.setattr(torch, "ones", without_double)
    monkeypatch.setattr(command, "CHECKS", {"nothing": lambda options: iter(())})
    monkeypatch.setattr(command, "TRACING", float("inf"))
    single, double, _ = command.outcomes(UNHURRIED)
    assert (single.status, double.status) == ("ok", "skipped")
    assert double.detail == "Cannot convert a MPS Tensor to float64"
