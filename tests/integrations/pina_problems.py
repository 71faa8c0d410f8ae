"""Problems of PINA's zoo, its tutorials' hard constraint and inverse problem, at reduced size."""

from __future__ import annotations

import logging
import warnings

import torch
from lightning.pytorch.callbacks import Callback
from pina import Condition, LabelTensor, Trainer
from pina.domain import CartesianDomain
from pina.equation import Equation
from pina.equation.zoo import FixedValue
from pina.model import FeedForward
from pina.operator import advection, div, grad, laplacian
from pina.problem import InverseProblem, SpatialProblem
from pina.problem.zoo import (
    AcousticWaveProblem,
    AllenCahnProblem,
    BurgersProblem,
    HelmholtzProblem,
    Poisson2DSquareProblem,
)
from pina.solver import (
    GradientPhysicsInformedSingleModelSolver,
    PhysicsInformedSingleModelSolver,
)


def _model(problem, width):
    return FeedForward(
        input_dimensions=len(problem.input_variables),
        output_dimensions=len(problem.output_variables),
        layers=[width, width, width],
        func=torch.nn.Tanh,
    )


def _sampled(problem, points):
    problem.discretise_domain(points, "grid", domains=["D"])
    others = [name for name in problem.domains if name != "D"]
    if others:
        problem.discretise_domain(points, "grid", domains=others)
    return problem


def burgers(points, width):
    problem = _sampled(BurgersProblem(nu=0.01), points)
    return PhysicsInformedSingleModelSolver(problem, _model(problem, width))


def acoustic_wave(points, width):
    problem = _sampled(AcousticWaveProblem(c=2.0), points)
    return PhysicsInformedSingleModelSolver(problem, _model(problem, width))


def allen_cahn(points, width):
    problem = _sampled(AllenCahnProblem(alpha=1e-4, beta=5), points)
    return PhysicsInformedSingleModelSolver(problem, _model(problem, width))


def helmholtz(points, width):
    problem = _sampled(HelmholtzProblem(k=1.0, alpha_x=1, alpha_y=2), points)
    return PhysicsInformedSingleModelSolver(problem, _model(problem, width))


class HardConstraint(torch.nn.Module):
    """Zero on the boundary of the unit square, as in the tutorial on hard constraints."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        factor = x.extract(["x"]) * (1 - x.extract(["x"]))
        return factor * x.extract("y") * (1 - x.extract("y")) * self.model(x)


def poisson_hard(points, width):
    problem = _sampled(Poisson2DSquareProblem(), points)
    return PhysicsInformedSingleModelSolver(problem, HardConstraint(_model(problem, width)))


class _Inverse(SpatialProblem, InverseProblem):
    output_variables = ("u",)
    spatial_domain = CartesianDomain({"x": [-2, 2], "y": [-2, 2]})
    unknown_parameter_domain = CartesianDomain({"mu1": [-1, 1], "mu2": [-1, 1]})

    @staticmethod
    def _poisson(input_, output_, params_):
        force = torch.exp(
            -2 * (input_.extract(["x"]) - params_["mu1"]) ** 2
            - 2 * (input_.extract(["y"]) - params_["mu2"]) ** 2
        )
        return laplacian(output_, input_, components=["u"], d=["x", "y"]) - force

    domains = {"D": spatial_domain}  # noqa: RUF012
    points = LabelTensor(torch.linspace(-2, 2, 20, dtype=torch.float64).reshape(10, 2), ["x", "y"])
    data = LabelTensor(torch.linspace(0, 1, 10, dtype=torch.float64)[:, None], ["u"])
    conditions = {  # noqa: RUF012
        "D": Condition(domain="D", equation=Equation(_poisson)),
        "data": Condition(input=points, target=data),
    }


def inverse_poisson(points, width):
    _Inverse.output_variables = ["u"]
    problem = _sampled(_Inverse(), points)
    return PhysicsInformedSingleModelSolver(problem, _model(problem, width))


class _Stokes(SpatialProblem):
    """Two velocities and a pressure: every operator, and a derivative of an expression."""

    output_variables = ["ux", "uy", "p"]  # noqa: RUF012
    spatial_domain = CartesianDomain({"x": [-1, 1], "y": [-1, 1]})
    domains = {  # noqa: RUF012
        "D": spatial_domain,
        "wall": CartesianDomain({"x": [-1, 1], "y": -1}),
    }

    @staticmethod
    def momentum(input_, output_):
        velocity = output_.extract(["ux", "uy"])
        second = laplacian(velocity, input_)
        pressure = grad(output_.extract(["p"]), input_)
        moved = advection(output_, input_, ["ux", "uy"], ["ux", "uy"], ["x", "y"])
        return moved.tensor - second.tensor + pressure.tensor

    @staticmethod
    def continuity(input_, output_):
        return div(output_.extract(["ux", "uy"]), input_)

    @staticmethod
    def expression(input_, output_):
        square = LabelTensor(output_.extract(["p"]).tensor ** 2, ["q"])
        return grad(square, input_, d=["x"])

    conditions = {  # noqa: RUF012
        "D": Condition(domain="D", equation=Equation(momentum)),
        "D2": Condition(domain="D", equation=Equation(continuity)),
        "D3": Condition(domain="D", equation=Equation(expression)),
        "wall": Condition(domain="wall", equation=FixedValue(0.0)),
    }


def navier_stokes(points, width):
    problem = _sampled(_Stokes(), points)
    return PhysicsInformedSingleModelSolver(problem, _model(problem, width))


def poisson_gradient_enhanced(points, width):
    problem = _sampled(Poisson2DSquareProblem(), points)
    return GradientPhysicsInformedSingleModelSolver(problem, _model(problem, width))


PROBLEMS = [
    burgers,
    acoustic_wave,
    allen_cahn,
    helmholtz,
    poisson_hard,
    inverse_poisson,
    navier_stokes,
    poisson_gradient_enhanced,
]


class _Losses(Callback):
    def __init__(self):
        self.losses = []

    def on_train_batch_end(self, trainer, solver, outputs, batch, batch_idx):
        self.losses.append(outputs["loss"].detach())


def trainer(solver, epochs, *callbacks):
    """A trainer that says nothing and writes nothing."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    return Trainer(
        solver,
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    )


def train(problem, epochs, points=4, width=16):
    """The loss of every step."""
    torch.manual_seed(0)
    recorded = _Losses()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer(problem(points, width).double(), epochs, recorded).train()
    return torch.stack(recorded.losses)
