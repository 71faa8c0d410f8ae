"""A clamped square plate under uniform load: the biharmonic equation, order 4.

The deflection w of a thin plate that is clamped along its edges obeys

    Laplacian(Laplacian(w)) = 1    in the square -1 < x, y < 1,
    w = 0 and dw/dn = 0            on its edges

in units of load over bending stiffness. There is no closed form. The network has the boundary
conditions built in: w = (1 - x^2)^2 (1 - y^2)^2 N(x^2, y^2) satisfies them whatever N is, and is
symmetric like the plate. Training has to solve the equation only. Its residual is

    tt.func.biharmonic(model)(points) - 1

one forward pass along the four directions whose fourth derivatives add up to the biharmonic
operator. By nested autograd the same number takes a Laplacian of a Laplacian, three calls of
torch.autograd.grad each. Both train a copy of the same network, step by step in turn.

The reference is a Ritz solution by polynomials, computed here to nine digits; its deflection at the
centre is the 0.00126532 times side^4 of the tables. The script asserts the error of the network,
and that the two ways have the same losses; it draws the deflection, the bending moment (second
derivatives, by tt.func.hessian) and the losses over the seconds spent.

    python examples/plate.py            about a minute
    python examples/plate.py --quick    a few seconds: a smaller network, less accuracy
    python examples/plate.py --full     a larger network, trained further
"""

from __future__ import annotations

import _frame as frame
import numpy as np
import torch
from numpy.polynomial import legendre
from torch import nn

import taylortorch as tt

torch.set_default_dtype(torch.float64)

POISSON_RATIO = 0.3


class Plate(nn.Module):
    """A network times a factor that clamps it at the edges."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(2, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1)
        )

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        squares = points**2
        clamped = ((1 - squares) ** 2).prod(dim=-1, keepdim=True)
        # the deflection of the centre is about 0.02
        return 0.02 * clamped * self.network(2 * squares - 1)


# --- the same residual in two ways --------------------------------------------------------------


def taylor_residual(model: nn.Module, points: torch.Tensor) -> torch.Tensor:
    return tt.func.biharmonic(model)(points) - 1


def nested_residual(model: nn.Module, points: torch.Tensor) -> torch.Tensor:
    points = points.clone().requires_grad_(True)

    def laplacian(u: torch.Tensor) -> torch.Tensor:
        (du,) = torch.autograd.grad(u.sum(), points, create_graph=True)
        (du_x,) = torch.autograd.grad(du[:, 0].sum(), points, create_graph=True)
        (du_y,) = torch.autograd.grad(du[:, 1].sum(), points, create_graph=True)
        return du_x[:, :1] + du_y[:, 1:]

    return laplacian(laplacian(model(points))) - 1


# --- where the residual is taken ----------------------------------------------------------------


def quadrature(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Gauss-Legendre points of a quarter of the plate, the rest is symmetric; and their weights.

    The fourth derivatives are singular at the corners, though the deflection hardly feels it: the
    residual counts (1 - x^2) (1 - y^2) times.
    """
    nodes, weights = (torch.from_numpy(a[n:]) for a in legendre.leggauss(2 * n))
    points = torch.cartesian_prod(nodes, nodes)
    weights = torch.cartesian_prod(weights, weights) * (1 - points**2)
    weights = weights.prod(dim=1, keepdim=True)
    return points, weights / weights.sum()


# --- the reference ------------------------------------------------------------------------------


def ritz(functions: int = 12) -> tuple[np.ndarray, list[np.ndarray]]:
    """The c and p of w = sum_ij c_ij p_i(x) p_j(y), with p_i = (1 - x^2)^2 times Legendre's P_2i.

    Among all of this form the solution has the least energy: the integral of
    (Laplacian w)^2 / 2 - w.
    """
    nodes, weights = legendre.leggauss(2 * functions + 8)
    clamped = legendre.poly2leg([1, 0, -2, 0, 1])
    # scaled against the growth of second derivatives
    basis = [legendre.legmul(clamped, [0] * (2 * i) + [1 / (1 + i) ** 2]) for i in range(functions)]
    values = [legendre.legval(nodes, np.transpose(padded(basis, k))) for k in range(3)]
    mass, slope, bend = ((v * weights) @ v.T for v in values)
    energy = np.kron(bend, mass) + 2 * np.kron(slope, slope) + np.kron(mass, bend)
    load = values[0] @ weights
    return np.linalg.solve(energy, np.kron(load, load)).reshape(functions, functions), basis


def padded(basis: list[np.ndarray], order: int) -> np.ndarray:
    """The Legendre coefficients of the derivatives of that order, in one table."""
    table = np.zeros((len(basis), len(basis[-1])))
    for row, p in zip(table, basis, strict=True):
        derivative = legendre.legder(p, order)
        row[: len(derivative)] = derivative
    return table


def reference(x: torch.Tensor, y: torch.Tensor, along_x: int = 0, along_y: int = 0) -> torch.Tensor:
    """That derivative of the deflection, on the grid of ``x`` times ``y``."""
    coefficients, basis = ritz()
    p = legendre.legval(x.numpy(), padded(basis, along_x).T)
    q = legendre.legval(y.numpy(), padded(basis, along_y).T)
    return torch.from_numpy(p.T @ coefficients @ q)


# --- the picture --------------------------------------------------------------------------------


def draw(model: nn.Module, grid: torch.Tensor, exact: torch.Tensor, runs, picture) -> None:
    with torch.no_grad():
        w = model(torch.cartesian_prod(grid, grid)).reshape(exact.shape)
    figure = frame.figure(13, 7.4)
    top, bottom = figure.subplots(2, 3)
    levels = exact.max() * torch.linspace(0.1, 0.9, 9)
    for axes, values, title in ((top[0], w, "deflection, network"), (top[1], exact, "reference")):
        frame.field(axes, grid, grid, values, title, limits=(0, exact.max().item()))
        axes.contour(grid, grid, values.T, levels=levels, colors="white", linewidths=0.6)
    difference = (w - exact) / exact.max()
    most = difference.abs().max().item()
    frame.field(
        top[2],
        grid,
        grid,
        difference,
        "difference / largest deflection",
        cmap="RdBu_r",
        limits=(-most, most),
    )
    for axes in top:
        axes.set_aspect("equal")
        axes.set_xticks([-1, 0, 1])
        axes.set_yticks([-1, 0, 1])

    line = torch.stack([grid, torch.zeros_like(grid)], dim=1)
    with torch.no_grad():
        hessian = tt.func.hessian(model)(line)[:, 0]
    moment = -(hessian[:, 0, 0] + POISSON_RATIO * hessian[:, 1, 1])
    middle = torch.zeros(1)
    exact_moment = -(
        reference(grid, middle, along_x=2) + POISSON_RATIO * reference(grid, middle, along_y=2)
    )
    axes = bottom[0]
    axes.axhline(0, color="#dddddd", linewidth=1)
    axes.plot(grid, moment, color=frame.COLOURS[frame.TAYLOR], linewidth=4)
    axes.plot(grid, exact_moment, "--", color="#222222", linewidth=1.2)
    axes.set_title("bending moment along y = 0")
    axes.set_xlabel("x")
    axes.set_xlim(-1, 1)
    axes.text(0, 0.02, "network", color=frame.COLOURS[frame.TAYLOR], weight="bold", ha="center")
    axes.text(0, -0.02, "reference, dashed", color="#222222", ha="center", va="top")
    frame.loss_over_time(bottom[1], runs)
    frame.loss_over_time(bottom[2], runs, what="error")
    frame.save(figure, picture)


# --- all of it ----------------------------------------------------------------------------------


def main() -> None:
    setting = frame.start(
        __doc__,
        __file__,
        quick={"width": 12, "nodes": 6, "adam": 20, "lbfgs": 5, "claim": 1e-2},
        default={"width": 24, "nodes": 16, "adam": 100, "lbfgs": 45, "claim": 5e-4},
        full={"width": 40, "nodes": 24, "adam": 200, "lbfgs": 100, "claim": 5e-5},
    )
    grid = torch.linspace(-1, 1, 81)
    exact = reference(grid, grid)
    everywhere = torch.cartesian_prod(grid, grid)
    points, weights = quadrature(setting.nodes)
    model = Plate(setting.width)

    def error(model: nn.Module) -> float:
        with torch.no_grad():
            return frame.relative_l2(model(everywhere).reshape(exact.shape), exact)

    runs = frame.train(
        model,
        {
            frame.TAYLOR: lambda m: (weights * taylor_residual(m, points) ** 2).sum(),
            frame.NESTED: lambda m: (weights * nested_residual(m, points) ** 2).sum(),
        },
        [frame.adam(setting.adam, lr=5e-3), frame.lbfgs(setting.lbfgs)],
        error,
    )
    centre = model(torch.zeros(1, 2)).item() / 2**4
    print(f"   Deflection of the centre: {centre:.7f} side^4; tables: 0.0012653")
    frame.summarise(runs, setting.claim, agree_for=setting.adam)
    draw(model, grid, exact, runs, setting.picture)


if __name__ == "__main__":
    main()
