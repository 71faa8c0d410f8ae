"""Laplacians in many dimensions: time as a multiple of the plain forward pass.

``python -m benchmarks.high_dimension [--dimensions 100 1000 10000 100000] [--rounds 5]``. First an
MLP of width 128, with and without a hard boundary factor, against the same directions written out
and against nested reverse mode where these are feasible. Then a sum over particles, whose sparsity
the compact directions use.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable

import torch
from tqdm import tqdm

import taylortorch as tt
from benchmarks.interleaved import interleaved


def mlp(d: int, width: int = 128) -> torch.nn.Module:
    """Three hidden layers of one width."""
    layers: list[torch.nn.Module] = []
    for inputs in (d, width, width):
        layers += [torch.nn.Linear(inputs, width), torch.nn.Tanh()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(width, 1))


def written_out(f: Callable, event_dims: int = 1) -> Callable:
    """The collapsed Laplacian with all D directions written out, through the public class."""

    def laplacian(x: torch.Tensor) -> torch.Tensor:
        event = x.shape[x.ndim - event_dims :]
        units = torch.eye(event.numel()).reshape(-1, *(1,) * (x.ndim - event_dims), *event)
        return f(tt.TaylorTensor(x, directions=units, weights=1)).derivatives[2]

    return laplacian


def nested(f: Callable) -> Callable:
    """One reverse pass for each coordinate of the gradient."""

    def laplacian(x: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (g,) = torch.autograd.grad(f(x).sum(), x, create_graph=True)
            flat = g.reshape(len(x), -1)
            total = x.new_zeros(len(x))
            for i in range(flat.shape[1]):
                (row,) = torch.autograd.grad(flat[:, i].sum(), x, retain_graph=True)
                total += row.reshape(len(x), -1)[:, i]
            return total

    return laplacian


def main() -> None:
    """Print the two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dimensions", type=int, nargs="+", default=[100, 1000, 10_000, 100_000])
    parser.add_argument("--particles", type=int, nargs="+", default=[8, 32, 128])
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.manual_seed(0)
    print(f"{torch.get_num_threads()} threads, batch {args.batch}, width 128, float32")
    print("multiples of the plain forward pass; '-' is not feasible\n")
    print("| D | Laplacian | with hard boundary | training step | written out | nested reverse |")
    print("|---|---|---|---|---|---|")
    for d in tqdm(args.dimensions, leave=False):
        net, x = mlp(d), torch.randn(args.batch, d) / d**0.5

        def hard(x: torch.Tensor, net: torch.nn.Module = net) -> torch.Tensor:
            return (1 - x.square().sum(-1, keepdim=True)) * net(x)

        def step(x: torch.Tensor, net: torch.nn.Module = net) -> None:
            net.zero_grad()
            tt.func.laplacian(net)(x).square().mean().backward()

        ways: dict[str, Callable] = {
            "plain": torch.no_grad()(net),
            "laplacian": torch.no_grad()(tt.func.laplacian(net)),
            "hard": torch.no_grad()(tt.func.laplacian(hard)),
            "step": step,
        }
        if d <= 1000:
            ways["written"] = torch.no_grad()(written_out(net))
        if d <= 1000:
            ways["nested"] = nested(net)
        print(row(str(d), ways, x, args.rounds), flush=True)
    print("\n| particles | Laplacian | written out | gain |")
    print("|---|---|---|---|")
    phi = torch.nn.Sequential(
        torch.nn.Linear(3, 64), torch.nn.Tanh(), torch.nn.Linear(64, 64), torch.nn.Tanh()
    )
    rho = torch.nn.Linear(64, 1)
    for n in tqdm(args.particles, leave=False):

        def energy(x: torch.Tensor) -> torch.Tensor:
            return rho(phi(x).sum(1))

        x = torch.randn(16, n, 3)
        ways = {
            "plain": torch.no_grad()(energy),
            "laplacian": torch.no_grad()(tt.func.laplacian(energy, event_dims=2)),
            "written": torch.no_grad()(written_out(energy, 2)),
        }
        times = interleaved({k: functools.partial(f, x) for k, f in ways.items()}, args.rounds)
        gain = times["written"] / times["laplacian"]
        print(
            f"| {n} | {times['laplacian'] / times['plain']:.1f} "
            f"| {times['written'] / times['plain']:.1f} | {gain:.1f} |"
        )


def row(name: str, ways: dict[str, Callable], x: torch.Tensor, rounds: int) -> str:
    """A line of the first table."""
    times = interleaved({k: functools.partial(f, x) for k, f in ways.items()}, rounds)
    cells = [
        f"{times[k] / times['plain']:.1f}" if k in times else "-"
        for k in ("laplacian", "hard", "step", "written", "nested")
    ]
    return f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
