"""Problems of PINA's zoo give the same losses, epoch by epoch, from Taylor passes."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch

from taylortorch import UnsupportedFunction
from taylortorch.integrations import pina as integration

pytestmark = pytest.mark.integrations

NAMES = [
    "burgers",
    "acoustic_wave",
    "allen_cahn",
    "helmholtz",
    "poisson_hard",
    "inverse_poisson",
    "navier_stokes",
    "poisson_gradient_enhanced",
]


@pytest.fixture(scope="module")
def problems() -> ModuleType:
    return importlib.import_module(".pina_problems", __package__)


@pytest.fixture(autouse=True)
def _off() -> Iterator[None]:
    yield
    integration.disable()


def test_all_problems_are_tested(problems: ModuleType) -> None:
    assert [problem.__name__ for problem in problems.PROBLEMS] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_same_losses(name: str, problems: ModuleType) -> None:
    problem = getattr(problems, name)
    expected = problems.train(problem, 15)
    assert torch.isfinite(expected).all()
    assert len(expected) >= 14
    assert len(set(expected.tolist())) == len(expected)
    with integration.enable():
        found = problems.train(problem, 15)
        counts = integration.counts()
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-14)
    # one condition of the wave asks for a single gradient, which is left to PINA
    assert counts.served > (1 if name == "acoustic_wave" else 10) * counts.left > 0


def test_off_means_off(problems: ModuleType) -> None:
    from pina import LabelTensor
    from pina._src.condition.input_equation_condition import InputEquationCondition
    from pina._src.core import operator

    names = [
        (InputEquationCondition, "evaluate"),
        (LabelTensor, "extract"),
        (operator, "fast_grad"),
        (operator, "_scalar_laplacian"),
    ]
    before = [getattr(*name) for name in names]
    with integration.enable() as switch:
        assert switch is integration.enable()
        assert all(getattr(*name) is not old for name, old in zip(names, before, strict=True))
    assert all(getattr(*name) is old for name, old in zip(names, before, strict=True))


def test_the_result_is_labelled_as_before(problems: ModuleType) -> None:
    """Shapes and labels of every operator, of a served pass and of one that is not."""
    from pina import Condition
    from pina.equation import Equation
    from pina.operator import advection, div, grad, laplacian

    seen = []

    def equation(input_, output_):
        results = [
            grad(output_, input_),
            grad(output_, input_, components=["p", "ux"], d=["y"]),
            grad(grad(output_, input_, components=["ux"], d=["x"]), input_, d=["y"]),
            div(output_.extract(["ux", "uy"]), input_),
            laplacian(output_, input_, components=["uy", "p"]),
            laplacian(output_.extract(["p"]), input_, d=["y"]),
            advection(output_, input_, ["ux", "uy"], ["p"], ["x", "y"]),
        ]
        seen.append([(r.labels, r.tensor.detach().clone()) for r in results])
        return results[0]

    solver = problems.navier_stokes(4, 8).double()
    points = solver.problem.discretised_domains["D"]
    condition = Condition(domain="D", equation=Equation(equation))
    condition = Condition(input=points, equation=condition.equation)
    plain = condition.evaluate({"input": points.clone()}, solver)
    with integration.enable():
        for _ in range(2):
            result = condition.evaluate({"input": points.clone()}, solver)
            assert result.labels == plain.labels
        assert integration.counts().served > 0
    for found in seen[1:]:
        for (labels, values), (expected_labels, expected) in zip(found, seen[0], strict=True):
            assert labels == expected_labels
            torch.testing.assert_close(values, expected, rtol=1e-10, atol=1e-12)


def test_a_function_without_a_rule_is_named(problems: ModuleType) -> None:
    class Quantized(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model(torch.fake_quantize_per_tensor_affine(x, 0.1, 0, 0, 255))

    def problem(points, width):
        solver = problems.helmholtz(points, width)
        return problems.PhysicsInformedSingleModelSolver(solver.problem, Quantized(solver.model))

    with integration.enable(), pytest.raises(UnsupportedFunction, match="fake_quantize"):
        problems.train(problem, 3)
