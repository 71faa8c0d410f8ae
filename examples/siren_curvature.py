"""Mean and Gaussian curvature of an implicit surface: a SIREN fitted to the distance from a torus.

A network of sines f(x, y, z) is fitted to the signed distance from a torus, and to its normals, at
points close to the surface. Its zero set is then a surface of which no mesh is needed: gradient g
and Hessian H of the network give the curvatures at any point of it,

    mean      (|g|^2 trace(H) - g' H g) / (2 |g|^3)
    Gaussian  g' adjugate(H) g / |g|^4

(Goldman 2005). Both come out of one forward pass on a series of order 2 in three variables:

    point = tt.variables(points, order=2)
    f = network(point)
    g, H = tt.grad(f, point).value, tt.hessian(f, point).value

The same by nested autograd takes a gradient and then one more for each of its three components; by
torch.func, vmap of jacrev and of hessian. Taylor mode is not faster than nested autograd here: one
output by three coordinates is little work for reverse mode. It is shorter to write than either, and
takes no longer than torch.func. The network itself is fitted by ordinary autograd: the loss holds
first derivatives only, and that is what reverse mode is best at.

    python examples/siren_curvature.py            half a minute
    python examples/siren_curvature.py --quick    a few seconds: a smaller network, less accuracy
    python examples/siren_curvature.py --full     a larger network, trained further
"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import NamedTuple

import _frame as frame
import matplotlib as mpl
import torch
from torch import nn

import taylortorch as tt

torch.set_default_dtype(torch.float64)

TUBE, RING = 0.4, 1.0  # the radii of the torus
FUNC = "torch.func"


class Sine(nn.Module):
    def __init__(self, frequency: float) -> None:
        super().__init__()
        self.frequency = frequency

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sin(self.frequency * x)


def siren(width: int, frequency: float = 3.0) -> nn.Sequential:
    """Three layers of sines with the initial weights of Sitzmann et al. (2020)."""
    layers: list[nn.Module] = []
    for inputs in (3, width, width):
        linear = nn.Linear(inputs, width)
        bound = 1 / 3 if inputs == 3 else math.sqrt(6 / inputs) / frequency
        nn.init.uniform_(linear.weight, -bound, bound)
        layers += [linear, Sine(frequency)]
    return nn.Sequential(*layers, nn.Linear(width, 1), nn.Flatten(0))


# --- gradient and Hessian in three ways ---------------------------------------------------------


class Second(NamedTuple):
    """Gradient and Hessian at every point: ``(N, 3)`` and ``(N, 3, 3)``."""

    gradient: torch.Tensor
    hessian: torch.Tensor


def by_taylor(network: nn.Module, points: torch.Tensor) -> Second:
    with torch.no_grad():
        point = tt.variables(points, order=2)
        f = network(point)
        return Second(tt.grad(f, point).value, tt.hessian(f, point).value)


def by_nested_autograd(network: nn.Module, points: torch.Tensor) -> Second:
    points = points.clone().requires_grad_(True)
    (g,) = torch.autograd.grad(network(points).sum(), points, create_graph=True)
    rows = [torch.autograd.grad(g[:, i].sum(), points, retain_graph=True)[0] for i in range(3)]
    return Second(g.detach(), torch.stack(rows, dim=1))


def by_torch_func(network: nn.Module, points: torch.Tensor) -> Second:
    def f(point: torch.Tensor) -> torch.Tensor:
        return network(point.unsqueeze(0)).squeeze(0)

    with torch.no_grad():
        gradient = torch.func.vmap(torch.func.jacrev(f))(points)
        return Second(gradient, torch.func.vmap(torch.func.hessian(f))(points))


WAYS = {frame.TAYLOR: by_taylor, frame.NESTED: by_nested_autograd, FUNC: by_torch_func}


def curvatures(second: Second) -> tuple[torch.Tensor, torch.Tensor]:
    g, h = second
    length = g.norm(dim=1)
    along = torch.einsum("ni,nij,nj->n", g, h, g)
    trace = h.diagonal(dim1=1, dim2=2).sum(1)
    mean = (length**2 * trace - along) / (2 * length**3)
    a, b, c = h.unbind(1)
    adjugate = torch.stack(
        [torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)], 1
    )
    return mean, torch.einsum("ni,nij,nj->n", g, adjugate, g) / length**4


# --- the torus ----------------------------------------------------------------------------------


def torus(u: torch.Tensor, v: torch.Tensor, tube: torch.Tensor | float = TUBE) -> torch.Tensor:
    """The point at the angles u around the ring and v around the tube."""
    reach = RING + tube * torch.cos(v)
    return torch.stack([reach * torch.cos(u), reach * torch.sin(u), tube * torch.sin(v)], -1)


def outwards(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return torch.stack([torch.cos(v) * torch.cos(u), torch.cos(v) * torch.sin(u), torch.sin(v)], -1)


def exact_curvatures(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the torus at the point of it that is nearest."""
    x, y, z = points.unbind(-1)
    v = torch.atan2(z, torch.hypot(x, y) - RING)
    reach = RING + TUBE * torch.cos(v)
    return (reach + TUBE * torch.cos(v)) / (2 * TUBE * reach), torch.cos(v) / (TUBE * reach)


def samples(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Points within 0.1 of the torus, their distances and normals."""
    u, v = 2 * torch.pi * torch.rand(2, count)
    distance = 0.2 * torch.rand(count) - 0.1
    return torus(u, v, TUBE + distance), distance, outwards(u, v)


def grid(rings: int, around: int) -> torch.Tensor:
    u = torch.linspace(0, 2 * torch.pi, rings)
    v = torch.linspace(0, 2 * torch.pi, around)
    return torus(*torch.meshgrid(u, v, indexing="ij"))


def onto_zero_set(network: nn.Module, points: torch.Tensor) -> torch.Tensor:
    """Newton's method along the gradient: the nearest point of the network's own surface."""
    for _ in range(5):
        points = points.detach().requires_grad_(True)
        f = network(points)
        (g,) = torch.autograd.grad(f.sum(), points)
        points = points - (f / (g**2).sum(1))[:, None] * g
    return points.detach()


# --- checks and times ---------------------------------------------------------------------------


def errors(network: nn.Module, points: torch.Tensor) -> tuple[float, float]:
    """Of mean and Gaussian curvature on the surface, relative, root mean square."""
    surface = onto_zero_set(network, points)
    found, exact = curvatures(by_taylor(network, surface)), exact_curvatures(surface)
    mean, gauss = (frame.relative_l2(a, b) for a, b in zip(found, exact, strict=True))
    return mean, gauss


def compare(network: nn.Module, points: torch.Tensor, rounds: int) -> dict[str, float]:
    results = {name: way(network, points) for name, way in WAYS.items()}
    for name, result in results.items():
        for a, b in zip(result, results[frame.TAYLOR], strict=True):
            assert torch.allclose(a, b, rtol=1e-9, atol=1e-9), f"{name} disagrees"
    seconds = frame.side_by_side(
        {name: lambda way=way: way(network, points) for name, way in WAYS.items()}, rounds
    )
    print(f"   Gradient and Hessian at {len(points):,} points, all three the same to 1e-9:")
    for name, each in seconds.items():
        print(f"   {name:<16}{1e3 * each:>9.1f} ms{each / seconds[frame.TAYLOR]:>7.2f}x")
    print(f"   {frame.verdict({n: seconds[n] for n in (frame.TAYLOR, frame.NESTED)})}.\n")
    return seconds


# --- the picture --------------------------------------------------------------------------------


def draw(
    network: nn.Module, run: frame.Run, seconds: dict[str, float], setting: SimpleNamespace
) -> None:
    start = grid(2 * setting.mesh + 1, setting.mesh + 1)
    surface = onto_zero_set(network, start.reshape(-1, 3))
    found = curvatures(by_taylor(network, surface))
    exact = exact_curvatures(surface)
    figure = frame.figure(13.5, 8)
    plots, side = figure.subfigures(1, 2, width_ratios=(3.1, 1), wspace=0.02)
    rows = plots.subfigures(2, 1, hspace=0.02)
    for row, name, a, b in zip(rows, ("mean", "Gaussian"), found, exact, strict=True):
        limits = (b.min().item(), b.max().item())
        most = (a - b).abs().max().item()
        panels = row.subplots(1, 3, subplot_kw={"projection": "3d"})
        for panel, values, title, cmap, (low, high) in (
            (panels[0], b, f"{name} curvature, exact", "viridis", limits),
            (panels[1], a, "of the network's zero set", "viridis", limits),
            (panels[2], a - b, "error", "RdBu_r", (-most, most)),
        ):
            paint(row, panel, surface.reshape(start.shape), values, title, cmap, low, high)
    top, bottom = side.subplots(2, 1)
    top.plot(*zip(*run.errors, strict=True), color=frame.OTHER_COLOURS[1], linewidth=2)
    top.set_yscale("log")
    top.set_title("error of the curvature")
    top.set_xlabel("seconds of fitting")
    top.grid(True, color="#eeeeee")
    top.minorticks_off()
    colour = frame.colours(seconds)
    for n, (name, each) in enumerate(seconds.items()):
        bottom.bar(n, 1e3 * each, color=colour[name], width=0.65)
        bottom.text(
            n,
            1e3 * each,
            f"{1e3 * each:.3g} ms\n{each / seconds[frame.TAYLOR]:.2f}x",
            ha="center",
            va="bottom",
        )
    bottom.set_xticks(range(len(seconds)), [name.replace(" ", "\n") for name in seconds])
    bottom.set_ylim(0, 1.25e3 * max(seconds.values()))
    bottom.set_title("gradient and Hessian\nat every point")
    bottom.set_ylabel("milliseconds")
    frame.save(figure, setting.picture)


def paint(figure, panel, surface, values, title, cmap, low, high) -> None:
    shape = surface.shape[:2]
    scale = mpl.cm.ScalarMappable(mpl.colors.Normalize(low, high), cmap)
    values = values.reshape(shape)
    # the colour of a face is that of its middle
    middle = (values[1:, 1:] + values[:-1, 1:] + values[1:, :-1] + values[:-1, :-1]) / 4
    panel.plot_surface(
        *(surface[..., i].numpy() for i in range(3)),
        facecolors=scale.to_rgba(middle.numpy()),
        rcount=shape[0],
        ccount=shape[1],
        shade=False,
        linewidth=0,
        antialiased=False,
    )
    panel.set_box_aspect((1, 1, 0.4), zoom=1.12)
    panel.set(xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), zlim=(-0.48, 0.48))
    panel.view_init(elev=48, azim=-60)
    panel.set_axis_off()
    panel.set_title(title, y=0.97)
    bar = figure.colorbar(scale, ax=panel, location="bottom", shrink=0.7, pad=0.02, aspect=28)
    bar.outline.set_visible(False)
    bar.locator = mpl.ticker.MaxNLocator(4)
    bar.update_ticks()


def main() -> None:
    setting = frame.start(
        __doc__,
        __file__,
        quick={
            "width": 20,
            "samples": 400,
            "lbfgs": 12,
            "points": 1_000,
            "mesh": 30,
            "claim": 0.1,
        },
        default={
            "width": 32,
            "samples": 2_048,
            "lbfgs": 60,
            "points": 4_000,
            "mesh": 90,
            "claim": 0.02,
        },
        full={
            "width": 64,
            "samples": 8_192,
            "lbfgs": 200,
            "points": 50_000,
            "mesh": 120,
            "claim": 0.02,
        },
    )
    network = siren(setting.width)
    points, distance, normals = samples(setting.samples)
    everywhere = grid(25, 26).reshape(-1, 3)

    def misfit(network: nn.Module) -> torch.Tensor:
        here = points.clone().requires_grad_(True)
        f = network(here)
        (g,) = torch.autograd.grad(f.sum(), here, create_graph=True)
        return 100 * ((f - distance) ** 2).mean() + ((g - normals) ** 2).sum(1).mean()

    runs = frame.train(
        network,
        {"fitting": misfit},
        [frame.lbfgs(setting.lbfgs)],
        error=lambda network: max(errors(network, everywhere)),
    )
    mean, gauss = errors(network, everywhere)
    print(f"   Relative errors: mean curvature {mean:.2%}, Gaussian curvature {gauss:.2%}")
    frame.summarise(runs, setting.claim)
    seconds = compare(network, samples(setting.points)[0], rounds=11)
    draw(network, runs["fitting"], seconds, setting)


if __name__ == "__main__":
    main()
