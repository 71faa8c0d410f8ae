"""Problems from the documentation of neurodiffeq, at reduced size."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from neurodiffeq import diff
from neurodiffeq.conditions import (
    IBVP1D,
    IVP,
    BundleIVP,
    DirichletBVP2D,
    DirichletBVPSpherical,
)
from neurodiffeq.generators import Generator1D, Generator2D, Generator3D
from neurodiffeq.networks import FCNN
from neurodiffeq.operators import laplacian, spherical_laplacian
from neurodiffeq.solvers import BundleSolver1D, Solver1D, Solver2D, SolverSpherical


def _net(inputs, width, outputs=1):
    return FCNN(inputs, outputs, hidden_units=(width, width))


def _line(points, low=0.0, high=2.0):
    return {
        "t_min": low,
        "t_max": high,
        "train_generator": Generator1D(points, low, high),
        "valid_generator": Generator1D(points, low, high),
    }


def _plane(points, low=(0.0, 0.0), high=(1.0, 1.0)):
    side = max(2, round(points**0.5))
    return {
        "xy_min": low,
        "xy_max": high,
        "train_generator": Generator2D((side, side), low, high, method="equally-spaced"),
        "valid_generator": Generator2D((side, side), low, high, method="equally-spaced"),
    }


def exponential(points, width):
    return Solver1D(
        lambda u, t: [diff(u, t) + u], [IVP(0.0, 1.0)], nets=[_net(1, width)], **_line(points)
    )


def harmonic_oscillator(points, width):
    return Solver1D(
        lambda u, t: [diff(u, t, order=2) + u],
        [IVP(0.0, 0.0, 1.0)],
        nets=[_net(1, width)],
        **_line(points),
    )


def lotka_volterra(points, width):
    return Solver1D(
        lambda u, v, t: [diff(u, t) - (u - u * v), diff(v, t) - (u * v - v)],
        [IVP(0.0, 1.5), IVP(0.0, 1.0)],
        nets=[_net(1, width), _net(1, width)],
        **_line(points),
    )


def bundle(points, width):
    """A family of solutions: the rate and the start are inputs too."""
    side = max(2, round(points ** (1 / 2)))
    generator = Generator1D(side, 0.0, 1.0) * Generator1D(side, 1.0, 2.0)
    return BundleSolver1D(
        ode_system=lambda u, t: [diff(u, t) + u],
        conditions=[BundleIVP(t_0=0.0, bundle_param_lookup={"u_0": 0})],
        t_min=0.0,
        t_max=1.0,
        theta_min=[1.0],
        theta_max=[2.0],
        nets=[_net(2, width)],
        train_generator=generator,
        valid_generator=generator,
    )


def laplace(points, width):
    condition = DirichletBVP2D(
        x_min=0.0,
        x_min_val=lambda y: torch.sin(np.pi * y),
        x_max=1.0,
        x_max_val=lambda y: 0,
        y_min=0.0,
        y_min_val=lambda x: 0,
        y_max=1.0,
        y_max_val=lambda x: 0,
    )
    return Solver2D(
        lambda u, x, y: [laplacian(u, x, y)], [condition], nets=[_net(2, width)], **_plane(points)
    )


def heat(points, width):
    condition = IBVP1D(
        t_min=0.0,
        t_min_val=lambda x: torch.sin(np.pi * x),
        x_min=0.0,
        x_min_val=lambda t: 0,
        x_max=1.0,
        x_max_val=lambda t: 0,
    )
    return Solver2D(
        lambda u, x, t: [diff(u, t) - 0.3 * diff(u, x, order=2)],
        [condition],
        nets=[_net(2, width)],
        **_plane(points),
    )


def burgers_neumann(points, width):
    """Slopes are prescribed at the ends, so the condition differentiates the network there."""
    condition = IBVP1D(
        t_min=0.0,
        t_min_val=lambda x: torch.sin(np.pi * x),
        x_min=0.0,
        x_min_prime=lambda t: 0,
        x_max=1.0,
        x_max_prime=lambda t: 0,
    )
    return Solver2D(
        lambda u, x, t: [diff(u, t) + u * diff(u, x) - 0.1 * diff(u, x, order=2)],
        [condition],
        nets=[_net(2, width)],
        **_plane(points),
    )


def spherical(points, width):
    """Operators with ``diff(r**2 * diff(u, r), r)`` in them."""
    side = max(2, round(points ** (1 / 3)))
    low, high = (0.5, 0.5, 0.5), (1.0, 1.5, 1.5)
    generator = Generator3D((side, side, side), low, high, method="equally-spaced")
    condition = DirichletBVPSpherical(
        r_0=0.5, f=lambda th, ph: torch.cos(th), r_1=1.0, g=lambda th, ph: 0
    )
    return SolverSpherical(
        lambda u, r, th, ph: [spherical_laplacian(u, r, th, ph)],
        [condition],
        r_min=0.5,
        r_max=1.0,
        nets=[_net(3, width)],
        train_generator=generator,
        valid_generator=generator,
    )


def variable_coefficient(points, width):
    return Solver1D(
        lambda u, t: [diff((1 + t**2) * diff(u, t), t) + u],
        [IVP(0.0, 0.0, 1.0)],
        nets=[_net(1, width)],
        **_line(points),
    )


def lbfgs(points, width):
    net = _net(1, width)
    return Solver1D(
        lambda u, t: [diff(u, t, order=2) + u],
        [IVP(0.0, 0.0, 1.0)],
        nets=[net],
        optimizer=torch.optim.LBFGS(net.parameters(), lr=0.1, max_iter=3),
        **_line(points),
    )


PROBLEMS = [
    exponential,
    harmonic_oscillator,
    lotka_volterra,
    bundle,
    laplace,
    heat,
    burgers_neumann,
    spherical,
    variable_coefficient,
    lbfgs,
]


def train(problem, epochs, points=16, width=12):
    """The losses of training and validation, epoch by epoch."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        solver = problem(points, width)
        solver.fit(epochs, tqdm_file=None)
    return {name: solver.metrics_history[name] for name in ("train_loss", "valid_loss")}
