"""The ground states of hydrogen and helium by variational Monte Carlo.

A network psi(x) of the positions of all electrons is trained to the ground state of

    H = -1/2 Laplacian - sum_i Z / r_i + sum_ij 1 / r_ij    (atomic units)

by lowering the mean of the local energy (H psi) / psi over samples of psi^2, which are drawn by the
Metropolis algorithm as the training goes. No data are used. The kinetic energy is the Laplacian of
the network in 3 coordinates (hydrogen) or 6 (helium), at every sample and in every step:

    laplacian, value = tt.func.laplacian(psi, return_value=True)(x)
    energy = -laplacian / (2 * value) + potential(x)

The gradient of the mean energy needs the values of the local energy only, not their gradients: this
exercises the forward pass of the Laplacian. By nested autograd it takes one gradient, and one more
for every coordinate. Networks this small leave little between the two: with the three coordinates
of hydrogen they take about the same time, with the six of helium Taylor mode is faster where the
samples fit the cache, and slower where they do not.

The exact energies are -1/2 for hydrogen and -2.903724 for helium; the best product of two
functions of one electron each (Hartree and Fock) reaches -2.861680.

    python examples/hydrogen_vmc.py            about a minute
    python examples/hydrogen_vmc.py --quick    a few seconds: fewer samples, less accuracy
    python examples/hydrogen_vmc.py --full     a larger network and more samples
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import NamedTuple

import _frame as frame
import torch
from torch import nn

import taylortorch as tt

torch.set_default_dtype(torch.float64)


class Atom(NamedTuple):
    name: str
    electrons: int  # and the charge of the nucleus
    energy: float


HYDROGEN = Atom("hydrogen", 1, -0.5)
HELIUM = Atom("helium", 2, -2.903724377)  # Pekeris (1959); Drake (1999)
HARTREE_FOCK = -2.861680


class WaveFunction(nn.Module):
    """exp of a network of the positions and distances, plus terms that are known beforehand.

    Where two particles meet the potential is infinite and psi has a kink of known slope, such that
    the kinetic energy cancels it. The network has the distances among its inputs and could learn
    the kinks; given, they spare it the hardest part.
    """

    def __init__(self, atom: Atom, width: int) -> None:
        super().__init__()
        self.electrons = atom.electrons
        pairs = atom.electrons * (atom.electrons - 1) // 2
        self.network = nn.Sequential(
            nn.Linear(4 * atom.electrons + pairs, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, 1),
        )

    def log(self, x: torch.Tensor) -> torch.Tensor:
        charge = self.electrons
        to_nucleus, between = distances(x, self.electrons)
        near, far = charge, charge / 2  # the slope at the nucleus; outside the network corrects it
        kinks = -(to_nucleus * (near + far * to_nucleus) / (1 + to_nucleus)).sum(-1)
        kinks = kinks + (between / 2 / (1 + between)).sum(-1)
        return kinks + self.network(torch.cat([x, to_nucleus, between], -1)).squeeze(-1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.exp(self.log(x))


def distances(x: torch.Tensor, electrons: int) -> tuple[torch.Tensor, torch.Tensor]:
    """From the nucleus, ``(N, electrons)``, and of the electrons, ``(N, pairs)``."""
    places = x.unflatten(-1, (electrons, 3))
    apart = [places[:, i] - places[:, j] for i in range(electrons) for j in range(i)]
    between = [a.norm(dim=-1, keepdim=True) for a in apart]
    return places.norm(dim=-1), torch.cat(between, -1) if between else x[:, :0]


def potential(x: torch.Tensor, electrons: int) -> torch.Tensor:
    to_nucleus, between = distances(x, electrons)
    return -(electrons / to_nucleus).sum(-1) + (1 / between).sum(-1)


# --- the same local energy in two ways ----------------------------------------------------------


def taylor_energy(psi: WaveFunction, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        laplacian, value = tt.func.laplacian(psi, return_value=True)(x)
        return -laplacian / (2 * value) + potential(x, psi.electrons)


def nested_energy(psi: WaveFunction, x: torch.Tensor) -> torch.Tensor:
    x = x.clone().requires_grad_(True)
    value = psi(x)
    (slope,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    laplacian = torch.zeros_like(value)
    for i in range(x.shape[1]):
        (second,) = torch.autograd.grad(slope[:, i].sum(), x, retain_graph=True)
        laplacian += second[:, i]
    return (-laplacian / (2 * value) + potential(x, psi.electrons)).detach()


def mean_energy(local_energy: Callable) -> frame.Loss:
    """A loss whose value is the mean energy, and whose gradient is that of the mean energy.

    The samples depend on psi too; the gradient of the expectation is 2 E[(E_local - E) grad log
    psi]. Rare samples close to a kink are clipped to five times the mean deviation.
    """

    def loss(psi: WaveFunction, x: torch.Tensor) -> torch.Tensor:
        energy = local_energy(psi, x)
        middle = energy.median()
        most = 5 * (energy - middle).abs().mean()
        clipped = energy.clamp(middle - most, middle + most)
        steering = 2 * ((clipped - clipped.mean()) * psi.log(x)).mean()
        return energy.mean() + steering - steering.detach()

    return loss


# --- samples of psi^2 ---------------------------------------------------------------------------


class Walkers:
    """Samples of psi^2 that walk along as psi changes."""

    def __init__(self, psi: WaveFunction, count: int) -> None:
        self.psi = psi
        self.x = torch.randn(count, 3 * psi.electrons) / psi.electrons
        self.length = 0.5
        self.walk(100)

    @torch.no_grad()
    def walk(self, moves: int) -> torch.Tensor:
        here = self.psi.log(self.x)
        for _ in range(moves):
            proposed = self.x + self.length * torch.randn_like(self.x)
            there = self.psi.log(proposed)
            accepted = torch.rand_like(here).log() < 2 * (there - here)
            self.x = torch.where(accepted[:, None], proposed, self.x)
            here = torch.where(accepted, there, here)
            # about half of the moves are accepted where the steps are neither timid nor wild
            self.length *= 1.02 if accepted.double().mean() > 0.5 else 1 / 1.02
        return self.x


def measure(psi: WaveFunction, walkers: int, rounds: int) -> tuple[float, float]:
    """The energy of psi over fresh samples, and its standard error."""
    sampler = Walkers(psi, walkers)
    means = torch.stack([taylor_energy(psi, sampler.walk(15)).mean() for _ in range(rounds)])
    # neighbouring rounds are correlated: the error from the scatter of blocks of ten
    blocks = means[: rounds // 10 * 10].reshape(-1, 10).mean(1)
    return means.mean().item(), (blocks.std() / len(blocks) ** 0.5).item()


# --- one atom -----------------------------------------------------------------------------------


class Solved(NamedTuple):
    atom: Atom
    psi: WaveFunction
    walkers: torch.Tensor
    runs: dict[str, frame.Run]
    energy: float
    standard_error: float


def solve(atom: Atom, setting: SimpleNamespace, steps: int, claim: float) -> Solved:
    print(f"   {atom.name}: {3 * atom.electrons} coordinates, {setting.walkers} samples")
    psi = WaveFunction(atom, setting.width)
    walkers = Walkers(psi, setting.walkers)
    taylor, nested = taylor_energy(psi, walkers.x), nested_energy(psi, walkers.x)
    assert torch.allclose(taylor, nested, rtol=1e-9, atol=1e-9), "local energies differ"

    runs = frame.train(
        psi,
        {frame.TAYLOR: mean_energy(taylor_energy), frame.NESTED: mean_energy(nested_energy)},
        [frame.adam(steps, lr=4e-3)],
        error=lambda psi: abs(taylor_energy(psi, walkers.x).mean().item() - atom.energy),
        points=lambda step: walkers.walk(10),
    )
    energy, standard_error = measure(psi, setting.walkers, setting.rounds)
    first = runs[frame.TAYLOR]
    first.errors.append((first.total_seconds, abs(energy - atom.energy)))
    print(
        f"   Energy of {atom.name}: {energy:.5f} +- {standard_error:.5f}, exact {atom.energy:.5f}"
    )
    frame.summarise(runs, claim)
    return Solved(atom, psi, walkers.x, runs, energy, standard_error)


# --- the picture --------------------------------------------------------------------------------


def draw(hydrogen: Solved, helium: Solved, setting: SimpleNamespace) -> None:
    figure = frame.figure(13.5, 7.6)
    left, middle, right = figure.subfigures(1, 3, width_ratios=(1, 1.05, 1), wspace=0.03)
    top, bottom = left.subplots(2, 1, sharex=True, height_ratios=(2.2, 1))
    draw_hydrogen(top, bottom, hydrogen)
    draw_cloud(middle.subplots(), helium)
    top, bottom = right.subplots(2, 1)
    draw_energy(top, helium)
    draw_times(bottom, hydrogen, helium)
    frame.save(figure, setting.picture)


def draw_hydrogen(top, bottom, solved: Solved) -> None:
    """psi along the average of the directions, scaled to the norm of the exact function."""
    r = torch.linspace(0.01, 6, 300)
    directions = nn.functional.normalize(torch.randn(50, 3), dim=1)
    with torch.no_grad():
        psi = solved.psi((r[:, None, None] * directions).reshape(-1, 3)).reshape(300, 50).mean(1)
    psi = psi / (torch.trapezoid(4 * torch.pi * (r * psi) ** 2, r)) ** 0.5
    exact = torch.exp(-r) / torch.pi**0.5
    colour = frame.OTHER_COLOURS[1]
    density, exact_density = (4 * torch.pi * (r * f) ** 2 for f in (psi, exact))
    distance = solved.walkers.norm(dim=1)
    top.hist(
        distance.numpy(), bins=36, range=(0, 6), density=True, color="#dfe8f2", label="samples"
    )
    top.plot(r, density, color=colour, linewidth=4, label="network")
    top.plot(r, exact_density, "--", color="#222222", linewidth=1.3, label="exact")
    top.legend(frameon=False, loc="upper right")
    top.set_title(
        f"hydrogen: E = {solved.energy:.5f} ± {solved.standard_error:.5f}\n"
        f"exact {solved.atom.energy}"
    )
    top.set_ylabel("probability density of the distance")
    bottom.axhline(0, color="#dddddd", linewidth=1)
    bottom.plot(r, density - exact_density, color="#e4704f", linewidth=1.8)
    bottom.set_ylabel("error")
    bottom.set_xlabel("distance from the nucleus, in Bohr radii")
    bottom.set_xlim(0, 6)


def draw_cloud(axes, solved: Solved) -> None:
    """Where the second electron of helium is while the first one is held in place."""
    across, up = torch.linspace(-1.5, 1.5, 181), torch.linspace(-2.2, 2.2, 265)
    x, y = torch.meshgrid(across, up, indexing="ij")
    held = torch.tensor([0.5, 0.0, 0.0]).expand(x.numel(), 3)
    moving = torch.stack([x.reshape(-1), y.reshape(-1), torch.zeros(x.numel())], 1)
    with torch.no_grad():
        beside = solved.psi(torch.cat([held, moving], 1))
        opposite = solved.psi(torch.cat([-held, moving], 1))
    # a function of one electron each would be the same on both sides of the nucleus
    ratio = (beside / opposite) ** 2
    limit = (ratio.log().abs().max()).item()
    mesh = frame.field(
        axes,
        across,
        up,
        ratio.log().reshape(x.shape),
        "helium: the electrons avoid each other",
        cmap="RdBu_r",
        limits=(-limit, limit),
        bar=False,
    )
    bar = axes.figure.colorbar(mesh, ax=axes, location="bottom", pad=0.02, aspect=30)
    bar.outline.set_visible(False)
    ticks = [t for t in (0.25, 0.4, 0.6, 0.8, 1, 1.25, 1.6, 2.5, 4) if abs(math.log(t)) <= limit]
    bar.set_ticks([math.log(t) for t in ticks], labels=[f"{t:g}" for t in ticks])
    bar.set_label("likelihood of electron 2 here, over that with\nelectron 1 across the nucleus")
    density = (beside**2).reshape(x.shape)
    levels = (density.max() * 10 ** torch.linspace(-2.5, -0.25, 6)).tolist()
    axes.contour(across, up, density.T, levels=levels, colors="#333333", linewidths=0.8, alpha=0.6)
    for place, name, offset in ((0.0, "nucleus", (-8, -16)), (0.5, "electron 1", (6, 10))):
        axes.plot(place, 0, "o", color="#111111", markersize=6, markeredgecolor="white")
        axes.annotate(name, (place, 0), xytext=offset, textcoords="offset points", fontsize=10)
    axes.set_aspect("equal")
    axes.set_xlabel("Bohr radii; contours: density of electron 2")


def draw_energy(axes, solved: Solved) -> None:
    run = solved.runs[frame.TAYLOR]
    energies = torch.tensor(run.losses)
    window = max(1, len(energies) // 40)
    mean = energies.unfold(0, window, 1).mean(1)
    axes.plot(energies, color="#cfe5df", linewidth=0.8)
    axes.plot(torch.arange(len(mean)) + window / 2, mean, color=frame.COLOURS[frame.TAYLOR])
    low, high = solved.atom.energy - 0.03, HARTREE_FOCK + 0.04
    axes.axhline(solved.atom.energy, color="#222222", linestyle="--", linewidth=1.2)
    axes.axhline(HARTREE_FOCK, color="#e4704f", linestyle="--", linewidth=1.2)
    axes.text(
        len(energies), solved.atom.energy - 0.002, "exact", ha="right", va="top", color="#222222"
    )
    axes.text(len(energies), HARTREE_FOCK + 0.002, "Hartree-Fock", ha="right", color="#e4704f")
    axes.set_ylim(low, high)
    axes.set_xlim(0, len(energies))
    axes.set_xlabel("step")
    axes.set_title(
        f"helium: E = {solved.energy:.4f} ± {solved.standard_error:.4f}\n"
        f"exact {solved.atom.energy:.4f}"
    )


def draw_times(axes, *all_solved: Solved) -> None:
    rows, labels = [], []
    for solved in all_solved:
        for name in (frame.TAYLOR, frame.NESTED):
            rows.append((solved.runs[name], name))
            labels.append(f"{solved.atom.name}\n{name}")
    for n, (run, name) in enumerate(rows):
        milliseconds = 1e3 / run.per_second
        axes.barh(n, milliseconds, color=frame.COLOURS[name], height=0.65)
        axes.text(milliseconds, n, f" {milliseconds:.1f} ms", va="center")
    axes.set_yticks(range(len(rows)), labels, fontsize=10)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.25 * max(1e3 / run.per_second for run, _ in rows))
    ratio = frame.time_ratio(*all_solved[-1].runs.values())
    axes.set_title(f"training step: helium {ratio:.2f}x")
    axes.set_xlabel("milliseconds, without the sampling")


def main() -> None:
    setting = frame.start(
        __doc__,
        __file__,
        quick={
            "walkers": 256,
            "width": 16,
            "rounds": 30,
            "hydrogen": (40, 2e-2),
            "helium": (60, 5e-2),
        },
        default={
            "walkers": 512,
            "width": 64,
            "rounds": 600,
            "hydrogen": (200, 2e-3),
            "helium": (800, 4e-3),
        },
        full={
            "walkers": 4096,
            "width": 128,
            "rounds": 1000,
            "hydrogen": (1000, 1e-3),
            "helium": (4000, 2e-3),
        },
    )
    hydrogen = solve(HYDROGEN, setting, *setting.hydrogen)
    helium = solve(HELIUM, setting, *setting.helium)
    draw(hydrogen, helium, setting)


if __name__ == "__main__":
    main()
