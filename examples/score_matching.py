"""Score matching with the exact divergence: the score of a density learned from samples alone.

The score of a density p is s(x) = grad log p(x). A network is trained to it without ever seeing p
or s, by Hyvarinen's identity (2005): up to a constant

    E |network(x) - s(x)|^2 / 2  =  E [ |network(x)|^2 / 2 + div network(x) ]

The right-hand side needs samples of p, and the divergence of the network at each of them, which is
exact here (no random projections):

    X = tt.variables(x, order=1)
    s = network(X)
    loss = ((s.value**2).sum(1) / 2 + tt.div(s, X).value).mean()

By nested autograd the divergence takes one gradient for each coordinate, each of which backward()
has to go through again. In two dimensions this is no more work than Taylor mode's two tangents:
the two take about the same time, and the choice is one of convenience.

The density is a mixture of 48 Gaussians along two arms of a spiral, so that its score is known. In
the end Langevin dynamics in the learned score draws new samples.

    python examples/score_matching.py            a minute
    python examples/score_matching.py --quick    a few seconds: fewer steps, less accuracy
    python examples/score_matching.py --full     a larger network, trained longer
"""

from __future__ import annotations

import _frame as frame
import torch
from matplotlib.colors import LogNorm
from torch import nn

import taylortorch as tt

torch.set_default_dtype(torch.float64)


# --- the density --------------------------------------------------------------------------------

ALONG = torch.linspace(0, 1, 24)
ANGLE, REACH = 1.25 * torch.pi * ALONG, 0.6 + 2.2 * ALONG
ARM = torch.stack([REACH * torch.cos(ANGLE), REACH * torch.sin(ANGLE)], 1)
CENTRES, WIDTH = torch.cat([ARM, -ARM]), 0.35


def log_density(x: torch.Tensor) -> torch.Tensor:
    squares = ((x[:, None] - CENTRES) ** 2).sum(2)
    normalised = len(CENTRES) * 2 * torch.pi * WIDTH**2
    return torch.logsumexp(-squares / (2 * WIDTH**2), 1) - torch.log(torch.tensor(normalised))


def score(x: torch.Tensor) -> torch.Tensor:
    shares = torch.softmax(-((x[:, None] - CENTRES) ** 2).sum(2) / (2 * WIDTH**2), 1)
    return (shares @ CENTRES - x) / WIDTH**2


def sample(count: int) -> torch.Tensor:
    return CENTRES[torch.randint(len(CENTRES), (count,))] + WIDTH * torch.randn(count, 2)


def score_network(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(2, width),
        nn.SiLU(),
        nn.Linear(width, width),
        nn.SiLU(),
        nn.Linear(width, width),
        nn.SiLU(),
        nn.Linear(width, 2),
    )


# --- the same loss in two ways ------------------------------------------------------------------


def taylor_loss(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    X = tt.variables(x, order=1)
    s = network(X)
    return ((s.value**2).sum(1) / 2 + tt.div(s, X).value).mean()


def nested_loss(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    x = x.clone().requires_grad_(True)
    s = network(x)
    divergence = torch.zeros(len(x))
    for i in range(x.shape[1]):
        (slope,) = torch.autograd.grad(s[:, i].sum(), x, create_graph=True)
        divergence = divergence + slope[:, i]
    return ((s**2).sum(1) / 2 + divergence).mean()


@torch.no_grad()
def langevin(network: nn.Module, count: int, steps: int, size: float = 0.02) -> torch.Tensor:
    """Samples of the density whose score the network is: noise, and drift along the score."""
    x = 2 * torch.randn(count, 2)
    for _ in range(steps):
        x = x + size * network(x) + (2 * size) ** 0.5 * torch.randn_like(x)
    return x


# --- the picture --------------------------------------------------------------------------------


@torch.no_grad()
def draw(network: nn.Module, runs: dict[str, frame.Run], data, drawn, picture) -> None:
    figure = frame.figure(13.5, 8.6)
    panels = figure.subplots(2, 3)
    side = torch.linspace(-3.6, 3.6, 145)
    grid = torch.cartesian_prod(side, side)
    shape = (len(side), len(side))
    exact, learned = score(grid), network(grid)
    density = log_density(grid).exp()
    # in the corners, where there are no samples, it is three times as long
    most = 10
    for axes, points, title in (
        (panels[0, 0], data, "what the network sees: samples"),
        (panels[1, 0], drawn, "new samples, by Langevin dynamics"),
    ):
        axes.hist2d(
            *points.T.numpy(), bins=60, range=[(-3.6, 3.6)] * 2, cmap="magma_r", norm=LogNorm(1)
        )
        levels = density.max().item() * torch.tensor([0.03, 0.2, 0.6])
        axes.contour(side, side, density.reshape(shape).T, levels=levels, colors="#4c9be8")
        axes.set_title(title)
    for axes, values, title in (
        (panels[0, 1], exact, "score, exact"),
        (panels[1, 1], learned, "score, learned from the samples"),
    ):
        length = values.norm(dim=1).reshape(shape)
        frame.field(axes, side, side, length, title, limits=(0, most))
        flow = values.reshape(*shape, 2).transpose(0, 1).numpy()
        axes.streamplot(
            side.numpy(),
            side.numpy(),
            flow[..., 0],
            flow[..., 1],
            color="white",
            density=1.1,
            linewidth=0.7,
            arrowsize=0.8,
        )
    # where there are no samples the score cannot be learned: the error counts by the density
    weighted = (learned - exact).norm(dim=1) * (density / density.max()).sqrt()
    frame.field(
        panels[0, 2],
        side,
        side,
        weighted.reshape(shape),
        "error, times √(p / max p)",
        cmap="Reds",
    )
    for axes in (*panels[:, 0], *panels[:, 1], panels[0, 2]):
        axes.set(xlim=(-3.6, 3.6), ylim=(-3.6, 3.6), aspect="equal", xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set_visible(False)
    frame.loss_over_time(panels[1, 2], runs, what="error")
    frame.save(figure, picture)


def main() -> None:
    setting = frame.start(
        __doc__,
        __file__,
        quick={"width": 32, "batch": 256, "steps": 250, "lr": 2e-2, "langevin": 50, "claim": 0.7},
        default={
            "width": 64,
            "batch": 512,
            "steps": 2_500,
            "lr": 1e-2,
            "langevin": 500,
            "claim": 0.15,
        },
        full={
            "width": 128,
            "batch": 2_048,
            "steps": 10_000,
            "lr": 5e-3,
            "langevin": 3_000,
            "claim": 0.1,
        },
    )
    network = score_network(setting.width)
    data = sample(5_000)
    exact = score(data)

    @torch.no_grad()
    def error(network: nn.Module) -> float:
        return frame.relative_l2(network(data), exact)

    runs = frame.train(
        network,
        {frame.TAYLOR: taylor_loss, frame.NESTED: nested_loss},
        [frame.adam(setting.steps, lr=setting.lr)],
        error,
        points=lambda step: sample(setting.batch),
    )
    frame.summarise(runs, setting.claim)
    draw(network, runs, data, langevin(network, 5_000, setting.langevin), setting.picture)


if __name__ == "__main__":
    main()
