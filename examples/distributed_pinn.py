"""A PINN whose points, parameters or directions are split over processes.

The sine-Gordon equation in the unit ball of D dimensions, with a known solution (Hu, Shukla,
Karniadakis and Kawaguchi 2023, "Tackling the curse of dimensionality with physics-informed neural
networks", two-body interactions):

    Laplacian(u) + sin(u) = g in |x| < 1,    u = 0 on |x| = 1
    u = (1 - |x|^2) sum_i c_i sin(x_i + cos(x_{i+1}) + x_{i+1} cos(x_i))

The network has the boundary condition built in. One step is the same for every number of processes
and every way of splitting it: the points of step n are drawn from seed n by all processes, and

    --split points        each process takes its share of them; DistributedDataParallel averages
                          the gradients (the default)
    --split parameters    the same, with parameters, gradients and the optimiser's state sharded:
                          fully_shard
    --split directions    each process takes all points, and its share of the D directions of the
                          Laplacian: tt.distributed.laplacian

The script first asserts that the gradients are those of one process, then trains, asserts the error
against the solution, and draws it.

    torchrun --standalone --nproc-per-node 2 examples/distributed_pinn.py      about a minute
    python examples/distributed_pinn.py            one process, nothing to split
      --quick    a few seconds: fewer dimensions and steps
      --full     ten dimensions, a larger network
      --checkpoint FOLDER    save there now and then; go on from what is there
      --measure              no training: seconds per step, alone and with communication

OMP_NUM_THREADS=1 where the machine has as many cores as there are processes.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import gc
import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

import taylortorch as tt

matplotlib.use("Agg")
import matplotlib.pyplot as plt


class Setting(NamedTuple):
    dimensions: int
    width: int
    depth: int
    points: int  # of one step, over all processes
    steps: int
    tolerance: float  # of the relative L2 error at the end


SETTINGS = {
    "quick": Setting(dimensions=3, width=32, depth=2, points=128, steps=150, tolerance=0.15),
    "default": Setting(dimensions=5, width=64, depth=3, points=1024, steps=1000, tolerance=0.02),
    "full": Setting(dimensions=10, width=128, depth=4, points=4096, steps=5000, tolerance=0.02),
}
SPLITS = ("points", "parameters", "directions")
LEARNING_RATE = 4e-3
# single precision: what different orders of summation leave
GRADIENT_TOLERANCE = 1e-4


class Processes(NamedTuple):
    rank: int
    count: int
    device: torch.device


# --- the problem --------------------------------------------------------------------------------


def in_the_ball(x: torch.Tensor) -> torch.Tensor:
    return 1 - (x * x).sum(-1)


def solution(x: torch.Tensor) -> torch.Tensor:
    a, b = x[..., :-1], x[..., 1:]
    weights = torch.cos(torch.arange(a.shape[-1], dtype=x.dtype, device=x.device))
    return in_the_ball(x) * (weights * torch.sin(a + torch.cos(b) + b * torch.cos(a))).sum(-1)


def right_side(x: torch.Tensor) -> torch.Tensor:
    laplacian, u = tt.func.laplacian(solution, return_value=True)(x)
    return laplacian + torch.sin(u)


def points_of_step(step: int, count: int, dimensions: int) -> torch.Tensor:
    """Uniform in the ball; the same for all processes, and for a run that was resumed."""
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(count, dimensions, generator=generator)
    radius = torch.rand(count, 1, generator=generator) ** (1 / dimensions)
    return radius * x / x.norm(dim=-1, keepdim=True)


class Model(nn.Module):
    """A network times a factor that is zero on the boundary; takes tensors and series."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        sizes = [setting.dimensions] + [setting.width] * setting.depth
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.Tanh()]
        self.network = nn.Sequential(*layers, nn.Linear(sizes[-1], 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return in_the_ball(x) * self.network(x).squeeze(-1)


# --- one step, split ----------------------------------------------------------------------------


def wrapped(model: nn.Module, split: str, processes: Processes) -> nn.Module:
    if processes.count == 1:
        return model
    if split == "parameters":
        for layer in model.network:
            if isinstance(layer, nn.Linear):
                fully_shard(layer)
        return fully_shard(model)
    return DistributedDataParallel(model)


def loss_of(model: nn.Module, x: torch.Tensor, split: str, processes: Processes) -> torch.Tensor:
    """The mean squared residual over this process's share; the gradients are averaged."""
    laplacian = tt.func.laplacian
    if split == "directions" and processes.count > 1:
        laplacian = tt.distributed.laplacian
    else:
        x = x[processes.rank :: processes.count]
    x = x.to(processes.device)
    laplacian_of_u, u = laplacian(model, return_value=True)(x)
    return ((laplacian_of_u + torch.sin(u) - right_side(x)) ** 2).mean()


def averaged(loss: torch.Tensor, processes: Processes) -> float:
    if processes.count > 1:
        dist.all_reduce(loss)
    return loss.item() / processes.count


def whole(x: Any) -> torch.Tensor:
    return x.full_tensor() if hasattr(x, "full_tensor") else x


def check_gradients(model: nn.Module, alone: nn.Module, x: torch.Tensor, how: tuple) -> float:
    """The largest difference to the gradients of one process, over the largest gradient."""
    split, processes = how
    loss_of(model, x, split, processes).backward()
    loss_of(alone, x, "points", processes._replace(rank=0, count=1)).backward()
    pairs = [
        (whole(p.grad), q.grad) for p, q in zip(model.parameters(), alone.parameters(), strict=True)
    ]
    largest = max(q.abs().max().item() for _, q in pairs)
    model.zero_grad()
    return max((p - q).abs().max().item() for p, q in pairs) / largest


# --- training -----------------------------------------------------------------------------------


def relative_error(model: nn.Module, x: torch.Tensor) -> float:
    with torch.no_grad():
        u, exact = model(x), solution(x)
    return ((u - exact).norm() / exact.norm()).item()


class Checkpoint:
    """The states of model and optimiser, sharded or not, in a folder for each step saved."""

    def __init__(self, folder: Path | None, model: nn.Module, optimizer: Any) -> None:
        self.folder, self.model, self.optimizer = folder, model, optimizer

    def state(self) -> dict[str, Any]:
        model, optimizer = get_state_dict(self.model, self.optimizer)
        return {"model": model, "optimizer": optimizer}

    def save(self, history: list) -> None:
        if self.folder is not None and history:
            folder = self.folder / f"{history[-1][0]:06}"
            if not (folder / ".metadata").exists():
                dcp.save({**self.state(), "history": history}, checkpoint_id=folder)

    def load(self) -> list:
        """The history of losses and errors so far."""
        # written last, so what has it is complete
        complete = [] if self.folder is None else sorted(self.folder.glob("*/.metadata"))
        if not complete:
            return []
        state = {**self.state(), "history": []}
        dcp.load(state, checkpoint_id=complete[-1].parent)
        set_state_dict(
            self.model,
            self.optimizer,
            model_state_dict=state["model"],
            optim_state_dict=state["optimizer"],
        )
        return state["history"]


def train(
    model: nn.Module, setting: Setting, split: str, processes: Processes, folder: Path | None
) -> list[tuple[int, float, float]]:
    """Trains; the step, the loss and the error, sixty times."""
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    checkpoint = Checkpoint(folder, model, optimizer)
    history = checkpoint.load()
    first = history[-1][0] if history else 0
    test = points_of_step(2**31, 4000, setting.dimensions).to(processes.device)
    look_every = max(1, setting.steps // 60)
    form = "   {desc} {bar:20} {percentage:3.0f} %, {elapsed} + {remaining} left{postfix}"
    with tqdm(
        total=setting.steps,
        initial=first,
        desc="training",
        bar_format=form,
        file=sys.stdout,
        mininterval=0.5,
        disable=processes.rank > 0,
    ) as progress:
        for step in range(first, setting.steps):
            # a function of the step alone, so that a resumed run has the same
            falling = 0.5 + 0.5 * torch.cos(torch.tensor(torch.pi * step / setting.steps)).item()
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * (0.01 + 0.99 * falling)
            x = points_of_step(step, setting.points, setting.dimensions)
            optimizer.zero_grad()
            loss = loss_of(model, x, split, processes)
            loss.backward()
            optimizer.step()
            if (step + 1) % look_every == 0 or step + 1 == setting.steps:
                error = relative_error(model, test)
                mean = averaged(loss.detach(), processes)
                history.append((step + 1, mean, error))
                progress.set_postfix_str(f"loss {mean:.2e}, error {error:.4f}")
                if (step + 1) % (10 * look_every) == 0:
                    checkpoint.save(history)
            progress.update()
    checkpoint.save(history)
    return history


# --- what a step costs --------------------------------------------------------------------------


def seconds(call: Callable[[], object], processes: Processes, rounds: int) -> float:
    """The median over rounds of the slowest process."""
    taken = []
    for _ in range(rounds + 2):
        if processes.count > 1:
            dist.barrier()
        begin = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begin)
    slowest = torch.tensor(taken[2:])
    if processes.count > 1:
        dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
    return statistics.median(slowest.tolist())


def measure(setting: Setting, processes: Processes, rounds: int) -> None:
    """Seconds of a training step, of its computation alone, and of one bare all-reduce."""
    count = sum(p.numel() for p in Model(setting).parameters())
    say = print if processes.rank == 0 else lambda *_: None
    say(
        f"   {setting.dimensions} dimensions, width {setting.width}, depth {setting.depth}: "
        f"{count} parameters, {4 * count / 1000:.0f} kB of gradients"
    )
    flat = torch.zeros(count, device=processes.device)
    if processes.count > 1:
        bare = seconds(lambda: dist.all_reduce(flat), processes, 5 * rounds)
        say(f"   one bare all-reduce of that size: {1e3 * bare:.2f} ms")
    say("   milliseconds per step        points   with communication   computation alone")
    for split in SPLITS if processes.count > 1 else ("points",):
        for points in (256, 1024, 4096):
            torch.manual_seed(0)
            model = wrapped(Model(setting).to(processes.device), split, processes)
            x = points_of_step(0, points, setting.dimensions)

            def step(sync: bool, model: Any = model, x: Any = x, split: str = split) -> None:
                quiet = contextlib.nullcontext()
                if processes.count > 1 and not sync:
                    quiet = model.no_sync()
                with quiet:
                    loss_of(model, x, split, processes).backward()

            together = seconds(lambda: step(True), processes, rounds)
            alone = "-"
            # the other two communicate in the middle of a step
            if split == "points":
                alone = f"{1e3 * seconds(lambda: step(False), processes, rounds):.1f}"
            say(f"   --split {split:<16} {points:>10} {1e3 * together:>20.1f} {alone:>19}")


# --- the picture --------------------------------------------------------------------------------


def draw(model: nn.Module, setting: Setting, history: list, title: str, path: Path | None) -> None:
    """The slice through the first two coordinates; all processes take part in the model."""
    line = torch.linspace(-1, 1, 161)
    first, second = torch.meshgrid(line, line, indexing="xy")
    x = torch.zeros(161 * 161, setting.dimensions)
    x[:, 0], x[:, 1] = first.reshape(-1), second.reshape(-1)
    device = next(model.parameters()).device
    with torch.no_grad():
        u = model(x.to(device)).cpu()
    if path is None:
        return
    outside = in_the_ball(x) < 0
    error = (u - solution(x)).masked_fill(outside, float("nan")).reshape(161, 161)
    u = u.masked_fill(outside, float("nan")).reshape(161, 161)
    plt.rcParams.update(
        {
            "font.size": 11,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 12,
        }
    )
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
    for axis, values, name, colours in (
        (axes[0], u, "the network on the plane of $x_1$ and $x_2$", "viridis"),
        (axes[1], error, "network minus solution", "RdBu_r"),
    ):
        bound = values[~values.isnan()].abs().max().item()
        limits = {} if colours == "viridis" else {"vmin": -bound, "vmax": bound}
        image = axis.imshow(values, origin="lower", extent=(-1, 1, -1, 1), cmap=colours, **limits)
        axis.set(title=name, xlabel="$x_1$", ylabel="$x_2$")
        figure.colorbar(image, ax=axis, shrink=0.85)
    steps, losses, errors = zip(*history, strict=True)
    axes[2].semilogy(steps, losses, color="#8a7cc9", label="mean squared residual")
    axes[2].semilogy(steps, errors, color="#1f9e89", label="relative $L^2$ error of $u$")
    axes[2].set(title="training", xlabel="step")
    axes[2].legend(frameon=False)
    axes[2].grid(alpha=0.25)
    figure.suptitle(title)
    figure.savefig(path, dpi=110)
    print(f"   {path}")


# --- all of it ----------------------------------------------------------------------------------


def run(arguments: argparse.Namespace, level: str, processes: Processes) -> None:
    setting, split = SETTINGS[level], arguments.split
    many = "1 process" if processes.count == 1 else f"{processes.count} processes"
    say = print if processes.rank == 0 else lambda *_: None
    say(
        f"{(__doc__ or '').splitlines()[0]}\n"
        f"   {level} setting, {many} on {processes.device.type}, "
        f"split: {split if processes.count > 1 else 'nothing'}, torch {torch.__version__}, "
        f"threads: {torch.get_num_threads()}\n"
    )
    if arguments.measure:
        measure(setting, processes, rounds=5 if level == "quick" else 20)
        return
    assert setting.points % processes.count == 0, "every process takes as many points"
    torch.manual_seed(0)
    alone = Model(setting).to(processes.device)
    model = wrapped(copy.deepcopy(alone), split, processes)
    x = points_of_step(0, setting.points, setting.dimensions)
    difference = check_gradients(model, alone, x, (split, processes))
    say(f"   gradients: {difference:.1e} from those of one process, relative to the largest")
    assert difference < GRADIENT_TOLERANCE

    begin = time.perf_counter()
    history = train(model, setting, split, processes, arguments.checkpoint)
    took, error = time.perf_counter() - begin, history[-1][2]
    say(
        f"   relative L2 error {error:.4f}, tolerance {setting.tolerance}; {took:.0f} s of training"
    )
    name = Path(__file__).stem if level == "default" else f"{Path(__file__).stem}-{level}"
    picture = (arguments.out or Path(__file__).parent) / f"{name}.png"
    title = (
        f"Sine-Gordon equation in the ball of {setting.dimensions} dimensions: relative error "
        f"{error:.1%} after {setting.steps} steps, {many}"
    )
    draw(model, setting, history, title, picture if processes.rank == 0 else None)
    assert error < setting.tolerance


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    how_long = parser.add_mutually_exclusive_group()
    how_long.add_argument("--quick", action="store_true", help="a few seconds, for CI")
    how_long.add_argument("--full", action="store_true", help="ten dimensions")
    parser.add_argument("--split", choices=SPLITS, default="points", help="what is split")
    parser.add_argument("--checkpoint", type=Path, help="folder to save to and to go on from")
    parser.add_argument("--measure", action="store_true", help="time a step, do not train")
    parser.add_argument("--threads", type=int, help="threads of torch in each process")
    parser.add_argument("--out", type=Path, help="folder for the picture (default: this one)")
    arguments = parser.parse_args()
    level = "quick" if arguments.quick else "full" if arguments.full else "default"
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)

    # what torchrun tells each process
    rank, count = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    place = int(os.environ.get("LOCAL_RANK", 0))
    device = torch.device("cpu")
    if torch.cuda.device_count() > place:
        device = torch.device("cuda", place)
        torch.cuda.set_device(device)
    if count > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        run(arguments, level, Processes(rank, count, device))
    finally:
        if count > 1:
            # wrapped models refer to themselves; one that outlives its group ends the process
            gc.collect()
            dist.destroy_process_group()


if __name__ == "__main__":
    main()
