"""Every entry of torch's operator database gets the verdicts recorded for this version of torch."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import taylortorch as tt
from taylortorch.engine.registry import RULES
from tests import op_db
from tests.op_db import ENTRIES, nearest, recorded, verdicts, version, versions
from tests.oracle import differences

EXPECTED = recorded(nearest(version(), versions()))


@pytest.mark.parametrize("of", versions(), ids=lambda of: "{}.{}".format(*of))
def test_nothing_in_the_lists_is_wrong_or_crashes(of: tuple[int, int]) -> None:
    bad = {"wrong", "crashed", "plain"}
    assert not {name for name, forms in recorded(of).items() if bad & set(forms.split())}


def test_the_list_is_complete() -> None:
    assert set(EXPECTED) == set(ENTRIES)


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_operator_database(name: str) -> None:
    assert verdicts(name) == EXPECTED.get(name, "an entry that the list lacks")


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        ((2, 10), (2, 10)),
        ((2, 11), (2, 10)),
        ((2, 12), (2, 13)),
        ((2, 16), (2, 15)),
        ((3, 0), (2, 15)),
    ],
)
def test_a_version_without_a_list_is_held_to_the_nearest(
    of: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert nearest(of, [(2, 10), (2, 13), (2, 14), (2, 15)]) == expected


def test_what_is_different_with_a_version_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(op_db, "VERDICTS", tmp_path / "op_db.txt")
    pinned = {"a": "right - -", "b": "refused - -", "c": "right right -"}
    other = {"a": "right - -", "c": "right partly -", "d": "value - -"}
    op_db.record(op_db.PINNED, pinned)
    op_db.record((2, 99), other)
    assert op_db.versions() == [op_db.PINNED, (2, 99)]
    assert recorded(op_db.PINNED) == pinned
    assert recorded((2, 99)) == other
    assert op_db.lines_of(tmp_path / "op_db-2.99.txt").keys() == {"b", "c", "d"}


# --- the walk itself ------------------------------------------------------------------------------


def _without_last(result: Any, args: Any) -> Any:
    return tt.TaylorTensor.from_coeffs([*result.coeffs[:-1], 2 * result.coeffs[-1]])


def _plain(result: Any, args: Any) -> Any:
    return result.value


def _shaped(result: Any, args: Any) -> Any:
    return result.unsqueeze(0)


def _written(result: Any, args: Any) -> Any:
    args[0].value.add_(0)
    return result


@pytest.mark.parametrize(
    ("spoil", "verdict"),
    [(_without_last, "wrong"), (_plain, "plain"), (_shaped, "wrong"), (_written, "wrong")],
)
def test_a_spoilt_rule_is_seen(spoil: Callable, verdict: str) -> None:
    for n, function in enumerate((torch.sinh, torch.Tensor.sinh)):
        rule = RULES[function]
        RULES[function] = lambda func, args, kwargs, rule=rule: spoil(
            rule(func, args, kwargs), args
        )
        assert verdicts("sinh").split()[n] == verdict
        RULES[function] = rule


def test_an_in_place_form_that_leaves_its_argument_is_seen() -> None:
    assert verdicts("sinh").split()[2] == "right"
    RULES[torch.Tensor.sinh_] = RULES[torch.sinh]
    assert verdicts("sinh").split()[2] == "crashed"


# --- oracles that are off -------------------------------------------------------------------------


def _reverse_mode_off(monkeypatch: pytest.MonkeyPatch) -> None:
    true = op_db.along
    monkeypatch.setattr(
        op_db, "along", lambda *args: [d + 0.2 * (1 + d.abs()) for d in true(*args)]
    )


def _one_difference_off(monkeypatch: pytest.MonkeyPatch, kind: str = "differences") -> None:
    true = getattr(op_db, kind)

    def off(*args: Any) -> tuple[torch.Tensor, torch.Tensor]:
        exact, error = true(*args)
        exact[1:, 0] += 0.02 * (1 + exact[1:, 0].abs())
        return exact, error

    monkeypatch.setattr(op_db, kind, off)


def _other_differences_off(monkeypatch: pytest.MonkeyPatch) -> None:
    _one_difference_off(monkeypatch, "other_differences")


def _one_value_off(monkeypatch: pytest.MonkeyPatch) -> None:
    true = op_db.differences

    def off(f: Callable, *args: Any) -> tuple[torch.Tensor, torch.Tensor]:
        count = itertools.count()
        return true(lambda xs: f(xs) + 1e-3 * (next(count) == 5), *args)

    monkeypatch.setattr(op_db, "differences", off)


OFF = [_reverse_mode_off, _one_difference_off, _other_differences_off, _one_value_off]


def _second_off(result: Any, args: Any) -> Any:
    c = list(result.coeffs)
    return tt.TaylorTensor.from_coeffs([*c[:2], c[2] + 0.02 * c[1], *c[3:]])


@pytest.mark.parametrize("off", OFF)
@pytest.mark.parametrize("name", ["sinh", "msort", "fmod", "nn_functional_softplus"])
def test_an_oracle_that_is_off_alone_changes_no_verdict(
    off: Callable, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    off(monkeypatch)
    assert verdicts(name) == EXPECTED[name]


@pytest.mark.parametrize("off", OFF)
@pytest.mark.parametrize("spoil", [_without_last, _second_off])
def test_a_spoilt_rule_is_seen_with_one_oracle_off(
    spoil: Callable, off: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = RULES[torch.sinh]
    spoilt = {torch.sinh: lambda func, args, kwargs: spoil(rule(func, args, kwargs), args)}
    monkeypatch.setitem(RULES, torch.sinh, spoilt[torch.sinh])
    off(monkeypatch)
    assert verdicts("sinh").split()[0] == "wrong"


class _OffBackward(torch.autograd.Function):
    """A cube whose backward pass is off."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return 3.3 * x**2 * grad


class _Cube:
    name = "cube"

    def __init__(self, function: Callable, base: list[torch.Tensor]) -> None:
        self.function, self.base = function, base

    def __call__(self, tensors: list[torch.Tensor]) -> torch.Tensor:
        return self.function(tensors[0])


def _oracles(function: Callable, seen: bool = True) -> tuple[Any, torch.Tensor]:
    """What is known of a cube along a line, and the derivatives."""
    x = torch.tensor([0.5, 0.7, -1.1], dtype=torch.float64)
    paths = [[x, torch.ones_like(x), *(torch.zeros_like(x) for _ in range(2))]]
    true = torch.stack([x**3, 3 * x**2, 6 * x, torch.full_like(x, 6.0)])
    return op_db.Oracles(_Cube(function, [x]), paths, seen, [x**3]), true


def test_the_forward_pass_is_right_where_reverse_mode_is_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    oracles, true = _oracles(_OffBackward.apply)
    assert [oracles.is_right(true[k], k) for k in (1, 2, 3)] == [True] * 3
    # a rule that repeats what the backward pass has wrong
    assert [oracles.is_right(1.1 * true[k], k) for k in (1, 2, 3)] == [False] * 3
    # one kind of differences alone does not overrule it
    _one_difference_off(monkeypatch)
    assert _oracles(lambda x: x**3)[0].is_right(true[1], 1)


@pytest.mark.parametrize("off", [_one_difference_off, _other_differences_off, _one_value_off])
def test_differences_alone_are_of_two_kinds(off: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    off(monkeypatch)
    oracles, true = _oracles(lambda x: x**3, seen=False)
    assert [oracles.is_right(true[k], k) for k in (1, 2, 3)] == [True] * 3
    assert [oracles.is_right(true[k] + 1e-3, k) for k in (1, 2, 3)] == [False] * 3


def test_what_no_oracle_knows_is_untested() -> None:
    oracles, true = _oracles(lambda x: torch.where(x > 0.5, x + 1, x), seen=False)
    assert not oracles.differences.smooth[0]
    got = torch.stack([true[0], torch.ones_like(true[0])])
    # an entry at a jump says nothing, those beside it do
    got[1, 0] = 7.0
    assert oracles.is_right(got[1], 1)
    got[1, 1] = 7.0
    assert not oracles.is_right(got[1], 1)


def test_differences_are_derivatives() -> None:
    x = torch.tensor([0.3, 1.1], dtype=torch.float64)
    found, error = differences(lambda xs: torch.sin(xs[0]), [[x, torch.ones_like(x)]], 3)
    exact = torch.stack([torch.sin(x), torch.cos(x), -torch.sin(x), -torch.cos(x)])
    torch.testing.assert_close(found, exact, rtol=1e-7, atol=1e-7)
    assert (error < 1e-5).all()


@pytest.mark.parametrize(
    "function",
    [
        torch.abs,
        torch.relu,
        torch.sign,
        lambda x: torch.relu(x) ** 2,
        lambda x: torch.relu(x) ** 3 / 3,
        lambda x: torch.where(x == 0, x + 1, x),
        torch.sqrt,
    ],
)
def test_differences_do_not_take_a_kink_for_smooth(function: Callable) -> None:
    x = torch.zeros(1, dtype=torch.float64)
    _, error = differences(lambda xs: function(xs[0]), [[x, torch.ones_like(x)]], 3)
    assert (error > 1e-4).any()
