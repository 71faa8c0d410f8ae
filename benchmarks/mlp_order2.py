"""u, u_x, u_xx of a tanh MLP with scalar input, forward and training step, as ratios.

Against the plain model (the floor) and vectorised nested autograd. ``--compile`` adds compiled
columns. Ratios hold within a row only: all its contenders took turns in one run.
"""

from __future__ import annotations

import argparse
import functools
import platform
from collections.abc import Callable

import torch
from torch import nn

import taylortorch as tt
from benchmarks.interleaved import interleaved

Way = Callable[[nn.Module, torch.Tensor], tuple[torch.Tensor, ...]]


def mlp(width: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(1, width), nn.Tanh()]
    for _ in range(3):
        layers += [nn.Linear(width, width), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(width, 1))


def nested(model: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    x = x.detach().requires_grad_()
    u = model(x)
    (u_x,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    (u_xx,) = torch.autograd.grad(u_x.sum(), x, create_graph=True)
    return u, u_x, u_xx


def taylor(model: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return model(tt.TaylorTensor(x)).derivatives


def loss(derivatives: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return sum((d.square().mean() for d in derivatives), torch.zeros(()))


def take(way: Way, model: nn.Module, x: torch.Tensor, training: bool) -> None:
    result = way(model, x)
    if training:
        loss(result).backward()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    print(
        f"torch {torch.__version__}, {arguments.threads} threads, {platform.machine()}, "
        f"medians of {arguments.rounds} interleaved rounds"
    )
    print("| width | batch | step | nested / plain | Taylor / plain | nested / Taylor |")
    print("|---|---|---|---|---|---|")
    for width in (32, 64, 256):
        for batch in (100, 1000, 10000):
            model, x = mlp(width), torch.randn(batch, 1)
            ways: dict[str, Way] = {"nested": nested, "Taylor": taylor}
            if arguments.compile:
                fast = torch.compile(lambda x, model=model: taylor(model, x), fullgraph=True)
                ways["Taylor compiled"] = lambda model, x, fast=fast: fast(x)
            for step in ("forward", "training"):
                steps = {"plain": lambda model, x: (model(x),), **ways}
                contenders = {
                    name: functools.partial(take, way, model, x, step == "training")
                    for name, way in steps.items()
                }
                seconds = interleaved(contenders, arguments.rounds)
                for name in [name for name in ways if name != "nested"]:
                    print(
                        f"| {width} | {batch} | {step}{name.removeprefix('Taylor')} "
                        f"| {seconds['nested'] / seconds['plain']:.2f} "
                        f"| {seconds[name] / seconds['plain']:.2f} "
                        f"| {seconds['nested'] / seconds[name]:.2f} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
