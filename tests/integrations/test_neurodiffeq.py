"""neurodiffeq's examples give the same losses, epoch by epoch, from Taylor passes."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest
import torch

from taylortorch.integrations import neurodiffeq as integration

pytestmark = pytest.mark.integrations

# whether a series is used: not for one gradient, nor where a condition differentiates, or the
# equation differentiates expressions
NAMES = {
    "exponential": False,
    "harmonic_oscillator": True,
    "lotka_volterra": False,
    "bundle": False,
    "laplace": True,
    "heat": True,
    "burgers_neumann": False,
    "spherical": False,
    "variable_coefficient": False,
    "lbfgs": True,
}


@pytest.fixture(scope="module")
def problems() -> ModuleType:
    return importlib.import_module(".neurodiffeq_problems", __package__)


@pytest.fixture(autouse=True)
def _off() -> Iterator[None]:
    yield
    integration.disable()


def test_all_problems_are_tested(problems: ModuleType) -> None:
    assert list(NAMES) == [problem.__name__ for problem in problems.PROBLEMS]


@pytest.mark.parametrize("name", NAMES)
def test_same_losses(name: str, problems: ModuleType) -> None:
    problem = getattr(problems, name)
    expected = problems.train(problem, 15)
    with integration.enable():
        found = problems.train(problem, 15)
        counts = integration.counts()
    assert set(found) == {"train_loss", "valid_loss"}
    for which, losses in expected.items():
        np.testing.assert_allclose(found[which], losses, rtol=1e-8, atol=1e-14)
    if NAMES[name]:
        assert counts.served > 10 * counts.left > 0
    else:
        assert counts.served == 0


def test_off_means_off(problems: ModuleType) -> None:
    from neurodiffeq import conditions, neurodiffeq, operators

    names = [
        (conditions.BaseCondition, "enforce"),
        (neurodiffeq, "unsafe_diff"),
        (operators, "grad"),
    ]
    before = [getattr(*name) for name in names]
    with integration.enable() as switch:
        assert switch is integration.enable()
        assert all(getattr(*name) is not old for name, old in zip(names, before, strict=True))
    assert all(getattr(*name) is old for name, old in zip(names, before, strict=True))


def test_diff_of_a_diff_and_a_derivative_that_is_zero(problems: ModuleType) -> None:
    from neurodiffeq import diff
    from neurodiffeq.conditions import NoCondition

    net, condition = torch.nn.Linear(2, 1), NoCondition()
    with integration.enable():
        for _ in range(2):
            x, y = (torch.rand(4, 1).requires_grad_() for _ in range(2))
            u = condition.enforce(net, x, y)
            mixed = diff(diff(u, x), y)
            assert torch.equal(mixed, torch.zeros(4, 1))
            assert torch.equal(diff(mixed, x), torch.zeros(4, 1))
        assert integration.counts().served == 3


def test_shapes_are_checked_as_before(problems: ModuleType) -> None:
    from neurodiffeq import diff

    with integration.enable(), pytest.raises(ValueError, match="n_samples, 1"):
        diff(torch.rand(4, requires_grad=True), torch.rand(4, 1, requires_grad=True))
