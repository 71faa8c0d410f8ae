"""Problems from the examples of DeepXDE, at reduced size: the script of each up to ``compile``."""

from __future__ import annotations

import os

os.environ.setdefault("DDE_BACKEND", "pytorch")

import deepxde as dde
import numpy as np
import torch


def _seed():
    dde.config.set_default_float("float64")
    dde.config.set_random_seed(0)


def _tanh(*sizes):
    return dde.nn.FNN(list(sizes), "tanh", "Glorot uniform")


def _start(data, net, optimizer="adam", **kwargs):
    model = dde.Model(data, net)
    model.compile(optimizer, **({"lr": 1e-3} if optimizer == "adam" else {}), verbose=0, **kwargs)
    return model


def poisson_neumann_1d(points=16, width=20):
    _seed()

    def pde(x, y):
        dy_xx = dde.grad.hessian(y, x)
        return dy_xx - 2

    geom = dde.geometry.Interval(-1, 1)
    left = dde.icbc.DirichletBC(
        geom, lambda x: (x + 1) ** 2, lambda x, on: on and np.isclose(x[0], -1)
    )
    right = dde.icbc.NeumannBC(
        geom, lambda x: 2 * (x + 1), lambda x, on: on and np.isclose(x[0], 1)
    )
    data = dde.data.PDE(geom, pde, [left, right], points, 2, num_test=10)
    return _start(data, _tanh(1, width, width, width, 1))


def poisson_robin_lbfgs(points=16, width=20):
    _seed()

    def pde(x, y):
        return dde.grad.hessian(y, x) - 2

    geom = dde.geometry.Interval(-1, 1)
    left = dde.icbc.DirichletBC(
        geom, lambda x: (x + 1) ** 2, lambda x, on: on and np.isclose(x[0], -1)
    )
    right = dde.icbc.RobinBC(geom, lambda x, y: y, lambda x, on: on and np.isclose(x[0], 1))
    data = dde.data.PDE(geom, pde, [left, right], points, 2, num_test=10)
    dde.optimizers.set_LBFGS_options(maxiter=20)
    dde.optimizers.LBFGS_options["iter_per_step"] = 4
    return _start(data, _tanh(1, width, width, 1), "L-BFGS")


def burgers(points=60, width=20):
    _seed()

    def pde(x, y):
        dy_x = dde.grad.jacobian(y, x, i=0, j=0)
        dy_t = dde.grad.jacobian(y, x, i=0, j=1)
        dy_xx = dde.grad.hessian(y, x, i=0, j=0)
        return dy_t + y * dy_x - 0.01 / np.pi * dy_xx

    geom = dde.geometry.Interval(-1, 1)
    geomtime = dde.geometry.GeometryXTime(geom, dde.geometry.TimeDomain(0, 0.99))
    bc = dde.icbc.DirichletBC(geomtime, lambda x: 0, lambda _, on: on)
    ic = dde.icbc.IC(geomtime, lambda x: -np.sin(np.pi * x[:, 0:1]), lambda _, on: on)
    data = dde.data.TimePDE(
        geomtime, pde, [bc, ic], num_domain=points, num_boundary=10, num_initial=20
    )
    return _start(data, _tanh(2, width, width, width, 1))


def heat(points=60, width=20):
    _seed()

    def pde(x, y):
        dy_t = dde.grad.jacobian(y, x, i=0, j=1)
        dy_xx = dde.grad.hessian(y, x, i=0, j=0)
        return dy_t - 0.4 * dy_xx

    geom = dde.geometry.Interval(0, 1)
    geomtime = dde.geometry.GeometryXTime(geom, dde.geometry.TimeDomain(0, 1))
    bc = dde.icbc.DirichletBC(geomtime, lambda x: 0, lambda _, on: on)
    ic = dde.icbc.IC(geomtime, lambda x: np.sin(np.pi * x[:, 0:1]), lambda _, on: on)
    data = dde.data.TimePDE(
        geomtime, pde, [bc, ic], num_domain=points, num_boundary=10, num_initial=20, num_test=30
    )
    return _start(data, _tanh(2, width, width, width, 1))


def allen_cahn(points=60, width=20):
    _seed()

    def pde(x, y):
        dy_t = dde.grad.jacobian(y, x, i=0, j=1)
        dy_xx = dde.grad.hessian(y, x, i=0, j=0)
        return dy_t - 0.001 * dy_xx - 5 * (y - y**3)

    def output_transform(x, y):
        return x[:, 0:1] ** 2 * torch.cos(np.pi * x[:, 0:1]) + x[:, 1:2] * (1 - x[:, 0:1] ** 2) * y

    geom = dde.geometry.Interval(-1, 1)
    geomtime = dde.geometry.GeometryXTime(geom, dde.geometry.TimeDomain(0, 1))
    data = dde.data.TimePDE(geomtime, pde, [], num_domain=points, num_boundary=10, num_initial=10)
    net = _tanh(2, width, width, width, 1)
    net.apply_output_transform(output_transform)
    return _start(data, net)


def euler_beam(points=16, width=20):
    _seed()

    def ddy(x, y):
        return dde.grad.hessian(y, x)

    def dddy(x, y):
        return dde.grad.jacobian(ddy(x, y), x)

    def pde(x, y):
        dy_xx = ddy(x, y)
        dy_xxxx = dde.grad.hessian(dy_xx, x)
        return dy_xxxx + 1

    def left_side(x, on):
        return on and np.isclose(x[0], 0)

    def right_side(x, on):
        return on and np.isclose(x[0], 1)

    geom = dde.geometry.Interval(0, 1)
    bcs = [
        dde.icbc.DirichletBC(geom, lambda x: 0, left_side),
        dde.icbc.NeumannBC(geom, lambda x: 0, left_side),
        dde.icbc.OperatorBC(geom, lambda x, y, _: ddy(x, y), right_side),
        dde.icbc.OperatorBC(geom, lambda x, y, _: dddy(x, y), right_side),
    ]
    data = dde.data.PDE(geom, pde, bcs, num_domain=points, num_boundary=2, num_test=20)
    return _start(data, _tanh(1, width, width, width, 1))


def helmholtz_hard_2d(points=60, width=20):
    _seed()
    k0 = 2 * np.pi

    def pde(x, y):
        dy_xx = dde.grad.hessian(y, x, i=0, j=0)
        dy_yy = dde.grad.hessian(y, x, i=1, j=1)
        f = k0**2 * torch.sin(k0 * x[:, 0:1]) * torch.sin(k0 * x[:, 1:2])
        return -dy_xx - dy_yy - k0**2 * y - f

    def transform(x, y):
        return x[:, 0:1] * (1 - x[:, 0:1]) * x[:, 1:2] * (1 - x[:, 1:2]) * y

    geom = dde.geometry.Rectangle([0, 0], [1, 1])
    data = dde.data.PDE(geom, pde, [], num_domain=points, num_boundary=10, num_test=20)
    net = dde.nn.FNN([2, width, width, width, 1], "sin", "Glorot uniform")
    net.apply_output_transform(transform)
    return _start(data, net)


def laplace_disk(points=60, width=20):
    _seed()

    def pde(x, y):
        dy_r = dde.grad.jacobian(y, x, i=0, j=0)
        dy_rr = dde.grad.hessian(y, x, i=0, j=0)
        dy_thetatheta = dde.grad.hessian(y, x, i=1, j=1)
        return x[:, 0:1] * dy_r + x[:, 0:1] ** 2 * dy_rr + dy_thetatheta

    def features(x):
        return torch.cat(
            [x[:, 0:1] * torch.sin(x[:, 1:2]), x[:, 0:1] * torch.cos(x[:, 1:2])], axis=1
        )

    geom = dde.geometry.Rectangle(xmin=[0, 0], xmax=[1, 2 * np.pi])
    rad = dde.icbc.DirichletBC(
        geom, lambda x: np.cos(x[:, 1:2]), lambda x, on: on and np.isclose(x[0], 1)
    )
    data = dde.data.PDE(geom, pde, rad, num_domain=points, num_boundary=20)
    net = _tanh(2, width, width, 1)
    net.apply_feature_transform(features)
    return _start(data, net)


def schroedinger(points=60, width=20):
    """Two outputs, and periodic conditions on values and slopes."""
    _seed()

    def pde(x, y):
        u, v = y[:, 0:1], y[:, 1:2]
        u_t = dde.grad.jacobian(y, x, i=0, j=1)
        v_t = dde.grad.jacobian(y, x, i=1, j=1)
        u_xx = dde.grad.hessian(y, x, component=0, i=0, j=0)
        v_xx = dde.grad.hessian(y, x, component=1, i=0, j=0)
        square = u**2 + v**2
        return [u_t + 0.5 * v_xx + square * v, v_t - 0.5 * u_xx - square * u]

    space = dde.geometry.Interval(-5, 5)
    geomtime = dde.geometry.GeometryXTime(space, dde.geometry.TimeDomain(0, np.pi / 2))
    bcs = [
        dde.icbc.PeriodicBC(geomtime, 0, lambda _, on: on, derivative_order=order, component=n)
        for n in (0, 1)
        for order in (0, 1)
    ]
    bcs.append(
        dde.icbc.IC(geomtime, lambda x: 2 / np.cosh(x[:, 0:1]), lambda _, on: on, component=0)
    )
    data = dde.data.TimePDE(geomtime, pde, bcs, points, num_boundary=10, num_initial=20)
    return _start(data, _tanh(2, width, width, width, 2))


def beltrami_flow(points=60, width=20):
    """Navier-Stokes in three dimensions and time."""
    _seed()
    viscosity = 1.0

    def pde(x, u):
        velocity = [u[:, n : n + 1] for n in range(3)]
        equations = []
        for n in range(3):
            slopes = [dde.grad.jacobian(u, x, i=n, j=j) for j in range(3)]
            u_t = dde.grad.jacobian(u, x, i=n, j=3)
            pressure = dde.grad.jacobian(u, x, i=3, j=n)
            second = sum(dde.grad.hessian(u, x, component=n, i=j, j=j) for j in range(3))
            moved = sum(v * slope for v, slope in zip(velocity, slopes, strict=True))
            equations.append(u_t + moved + pressure - viscosity * second)
        equations.append(sum(dde.grad.jacobian(u, x, i=n, j=n) for n in range(3)))
        return equations

    def u_func(x):
        a = d = 1
        return (
            -a
            * (
                np.exp(a * x[:, 0:1]) * np.sin(a * x[:, 1:2] + d * x[:, 2:3])
                + np.exp(a * x[:, 2:3]) * np.cos(a * x[:, 0:1] + d * x[:, 1:2])
            )
            * np.exp(-(d**2) * x[:, 3:4])
        )

    space = dde.geometry.Cuboid([-1, -1, -1], [1, 1, 1])
    geomtime = dde.geometry.GeometryXTime(space, dde.geometry.TimeDomain(0, 1))
    bcs = [
        dde.icbc.DirichletBC(geomtime, u_func, lambda _, on: on, component=0),
        dde.icbc.IC(geomtime, u_func, lambda _, on: on, component=0),
    ]
    data = dde.data.TimePDE(
        geomtime, pde, bcs, num_domain=points, num_boundary=12, num_initial=12, num_test=20
    )
    net = _tanh(4, width, width, width, 4)
    return _start(data, net, loss_weights=[1, 1, 1, 1, 100, 100])


def lorenz_inverse(points=30, width=20):
    """Three unknown constants."""
    _seed()
    c1, c2, c3 = (dde.Variable(1.0) for _ in range(3))

    def lorenz(x, y):
        y1, y2, y3 = y[:, 0:1], y[:, 1:2], y[:, 2:]
        dy1_x = dde.grad.jacobian(y, x, i=0)
        dy2_x = dde.grad.jacobian(y, x, i=1)
        dy3_x = dde.grad.jacobian(y, x, i=2)
        return [
            dy1_x - c1 * (y2 - y1),
            dy2_x - (y1 * (c2 - y3) - y2),
            dy3_x - (y1 * y2 - c3 * y3),
        ]

    geom = dde.geometry.TimeDomain(0, 3)
    times = np.linspace(0, 3, 12)[:, None]
    bcs = [
        dde.icbc.IC(geom, lambda _: -8, lambda x, on: np.isclose(x[0], 0), component=0),
        dde.icbc.IC(geom, lambda _: 7, lambda x, on: np.isclose(x[0], 0), component=1),
        dde.icbc.IC(geom, lambda _: 27, lambda x, on: np.isclose(x[0], 0), component=2),
    ]
    bcs += [dde.icbc.PointSetBC(times, np.cos(times + n), component=n) for n in range(3)]
    data = dde.data.PDE(geom, lorenz, bcs, num_domain=points, num_boundary=2, anchors=times)
    return _start(data, _tanh(1, width, width, 3), external_trainable_variables=[c1, c2, c3])


def kuramoto_sivashinsky(points=60, width=20):
    _seed()

    def pde(x, y):
        dy_x = dde.grad.jacobian(y, x, i=0, j=0)
        dy_t = dde.grad.jacobian(y, x, i=0, j=1)
        dy_xx = dde.grad.hessian(y, x, i=0, j=0)
        dy_xxxx = dde.grad.hessian(dy_xx, x, i=0, j=0)
        return dy_t + 6.25 * y * dy_x + 0.15 * dy_xx + 0.004 * dy_xxxx

    geom = dde.geometry.Interval(0, 2 * np.pi)
    geomtime = dde.geometry.GeometryXTime(geom, dde.geometry.TimeDomain(0, 1))
    ic = dde.icbc.IC(
        geomtime,
        lambda x: np.cos(x[:, 0:1]) * (1 + np.sin(x[:, 0:1])),
        lambda _, on: on,
    )
    data = dde.data.TimePDE(geomtime, pde, ic, num_domain=points, num_initial=20)
    return _start(data, _tanh(2, width, width, width, 1))


def korteweg_de_vries(points=60, width=20):
    """A third derivative, and a flux that is differentiated as an expression."""
    _seed()

    def pde(x, y):
        dy_t = dde.grad.jacobian(y, x, i=0, j=1)
        dy_xx = dde.grad.hessian(y, x, i=0, j=0)
        dy_xxx = dde.grad.jacobian(dy_xx, x, i=0, j=0)
        flux_x = dde.grad.jacobian(0.5 * y**2 + 0.1 * dy_xx, x, i=0, j=0)
        return dy_t + flux_x + 0.0025 * dy_xxx

    geom = dde.geometry.Interval(-1, 1)
    geomtime = dde.geometry.GeometryXTime(geom, dde.geometry.TimeDomain(0, 1))
    ic = dde.icbc.IC(geomtime, lambda x: np.cos(np.pi * x[:, 0:1]), lambda _, on: on)
    data = dde.data.TimePDE(geomtime, pde, ic, num_domain=points, num_initial=20)
    return _start(data, _tanh(2, width, width, width, 1))


def conductivity(points=60, width=20):
    """The derivative of an expression that the script forms itself: ``(k u_x)_x``."""
    _seed()

    def pde(x, y):
        flux_x = (1 + y**2) * dde.grad.jacobian(y, x, i=0, j=0)
        flux_y = (1 + x[:, 0:1] ** 2) * dde.grad.jacobian(y, x, i=0, j=1)
        return dde.grad.jacobian(flux_x, x, i=0, j=0) + dde.grad.jacobian(flux_y, x, i=0, j=1) - 1

    geom = dde.geometry.Rectangle([0, 0], [1, 1])
    bc = dde.icbc.DirichletBC(geom, lambda x: 0, lambda _, on: on)
    data = dde.data.PDE(geom, pde, bc, num_domain=points, num_boundary=12)
    return _start(data, _tanh(2, width, width, 1))


PROBLEMS = [
    poisson_neumann_1d,
    poisson_robin_lbfgs,
    burgers,
    heat,
    allen_cahn,
    euler_beam,
    helmholtz_hard_2d,
    laplace_disk,
    schroedinger,
    beltrami_flow,
    lorenz_inverse,
    kuramoto_sivashinsky,
    korteweg_de_vries,
    conductivity,
]


def train(problem, iterations):
    """The losses, training and test, of every step, and the model."""
    model = problem()
    if problem is poisson_robin_lbfgs:
        model.train(display_every=1, verbose=0)
    else:
        model.train(iterations=iterations, display_every=1, verbose=0)
    history = model.losshistory
    return np.array([history.loss_train, history.loss_test]), model
