"""Two processes on one machine, over gloo: wrapped models, split directions, checkpoints."""

from __future__ import annotations

import datetime
import functools
import gc
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module
from torch.nn.modules._functions import SyncBatchNorm as SyncBatchNormFunction
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parallel import distributed as data_parallel
from torch.nn.parallel._functions import Scatter

import taylortorch as tt
from tests.processes import PATIENCE, ROOT, Script, context

WORLD = 2
EXACT = 1e-14
Loss = Callable[[Callable, torch.Tensor], torch.Tensor]

# --- two processes that wait for something to do ------------------------------------------------


def serve(rank: int, store: str, pipe: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        store=dist.FileStore(store, WORLD),
        rank=rank,
        world_size=WORLD,
        timeout=datetime.timedelta(seconds=PATIENCE),
    )
    while (job := pipe.recv()) is not None:
        function, args = job
        try:
            function(rank, *args)
            pipe.send(None)
        except BaseException:
            pipe.send(traceback.format_exc())
    # a wrapped model refers to itself, and must not outlive its group
    gc.collect()
    dist.destroy_process_group()


class Ranks:
    """Calls ``function(rank, *args)`` in both; after a failure, two new ones."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started = 0
        self.processes: list[Any] = []
        self.pipes: list[Any] = []

    def __call__(self, function: Callable, *args: Any) -> None:
        if not self.processes:
            self.start()
        for pipe in self.pipes:
            pipe.send((function, args))
        said = self.answers()
        failures = [f"rank {rank}: {text}" for rank, text in enumerate(said) if text]
        if failures:
            self.stop()
            pytest.fail("\n".join(failures), pytrace=False)

    def answers(self) -> list[str | None]:
        """What went wrong in each. One that failed leaves the other waiting, which is cut short."""
        said: dict[Any, str | None] = {}
        end = time.monotonic() + PATIENCE
        while len(said) < WORLD:
            waiting = [pipe for pipe in self.pipes if pipe not in said]
            ready = wait(waiting, max(0.0, end - time.monotonic()))
            if not ready:
                said.update((pipe, "no answer") for pipe in waiting)
            for pipe in ready:
                try:
                    said[pipe] = pipe.recv()
                except EOFError:
                    said[pipe] = "has ended"
                if said[pipe]:
                    end = min(end, time.monotonic() + 10)
        return [said[pipe] for pipe in self.pipes]

    def start(self) -> None:
        processes = context()
        store = str(self.folder / f"store{self.started}")
        self.started += 1
        for rank in range(WORLD):
            here, there = processes.Pipe()
            process = processes.Process(target=serve, args=(rank, store, there), daemon=True)
            process.start()
            there.close()
            self.pipes.append(here)
            self.processes.append(process)

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()
        self.processes, self.pipes = [], []

    def finish(self) -> None:
        for pipe in self.pipes:
            pipe.send(None)
        for process in self.processes:
            process.join(60)
        self.stop()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ranks]:
    both = Ranks(tmp_path_factory.mktemp("ranks"))
    yield both
    both.finish()


# --- models and losses --------------------------------------------------------------------------


def network(inputs: int = 3) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Linear(inputs, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1)]
    return nn.Sequential(*layers).double()


def points(count: int = 6, inputs: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, inputs, dtype=torch.float64, generator=generator)


def by_variables(f: Callable, x: torch.Tensor) -> torch.Tensor:
    X = tt.variables(x)
    u = f(X)
    return ((tt.laplacian(u, X).value + u.value) ** 2).mean()


def by_line(f: Callable, x: torch.Tensor) -> torch.Tensor:
    return sum(((k + 1) * c**2).mean() for k, c in enumerate(f(tt.TaylorTensor(x)).coeffs))


def by_collapsed(f: Callable, x: torch.Tensor) -> torch.Tensor:
    units = torch.eye(x.shape[1], dtype=x.dtype).unsqueeze(1)
    u = f(tt.TaylorTensor(x, directions=units, weights=1.0))
    return ((2 * u.coeffs[2] + u.value) ** 2).mean()


def by_transform(f: Callable, x: torch.Tensor) -> torch.Tensor:
    laplacian, u = tt.func.laplacian(f, return_value=True)(x)
    return ((laplacian + u) ** 2).mean()


def by_nesting(f: Callable, x: torch.Tensor) -> torch.Tensor:
    u = f(tt.TaylorTensor(tt.TaylorTensor(x, order=1), order=1))
    inner = u.coeffs[1].coeffs[1]
    return ((inner + u.value.value) ** 2).mean()


def pure(f: Callable, x: torch.Tensor) -> torch.Tensor:
    """A loss in which the last bias has no part, and the value none."""
    X = tt.variables(x)
    return (tt.laplacian(f(X), X).value ** 2).mean()


LOSSES = [by_variables, by_line, by_collapsed, by_transform, by_nesting]


def gradients(model: nn.Module, x: torch.Tensor, loss: Loss) -> list[torch.Tensor | None]:
    """The gradients to the parameters, and to the points."""
    x = x.clone().requires_grad_()
    loss(model, x).backward()
    return [*(p.grad for p in model.parameters()), x.grad]


def sharded(model: nn.Module, **options: Any) -> nn.Module:
    for layer in model:
        if isinstance(layer, nn.Linear):
            fully_shard(layer, **options)
    return fully_shard(model, **options)


WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "DDP": DistributedDataParallel,
    "DDP, find_unused_parameters": lambda model: DistributedDataParallel(
        model, find_unused_parameters=True
    ),
    "DDP, static_graph": lambda model: DistributedDataParallel(model, static_graph=True),
    "FSDP, whole": fully_shard,
    "FSDP, layer by layer": sharded,
}


def whole(gradient: Any) -> torch.Tensor:
    """A gradient, put together where it is sharded."""
    return gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient


def assert_gradients(model: nn.Module, expected: list[Any], within: float = EXACT) -> None:
    for parameter, gradient in zip(model.parameters(), expected, strict=False):
        if gradient is None:
            assert parameter.grad is None or not whole(parameter.grad).any()
        else:
            error = (whole(parameter.grad) - gradient).abs().max().item()
            assert error <= within, error


# --- wrapped models -----------------------------------------------------------------------------


def same_gradients(rank: int, wrapper: str) -> None:
    for loss in LOSSES:
        expected = gradients(network(), points(), loss)
        model = WRAPPERS[wrapper](network())
        for step in range(3):
            model.zero_grad()
            mine = points()[rank::WORLD].requires_grad_(step > 0)
            loss(model, mine).backward()
            assert_gradients(model, expected)
            if step > 0:
                # of the mean over its own points only
                torch.testing.assert_close(mine.grad / WORLD, expected[-1][rank::WORLD])


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_gradients_are_those_of_one_process(ranks: Ranks, wrapper: str) -> None:
    ranks(same_gradients, wrapper)


def by_nested_autograd(f: Callable, x: torch.Tensor) -> torch.Tensor:
    x = x.clone().requires_grad_()
    u = f(x)
    (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    rows = [torch.autograd.grad(s.sum(), x, create_graph=True)[0] for s in slope.unbind(1)]
    laplacian = sum(row[:, i] for i, row in enumerate(rows))
    return ((laplacian.unsqueeze(1) + u) ** 2).mean()


def nested_autograd(rank: int) -> None:
    expected = gradients(network(), points(), by_variables)
    model = DistributedDataParallel(network())
    by_nested_autograd(model, points()[rank::WORLD]).backward()
    assert_gradients(model, expected)
    model = sharded(network())
    with pytest.raises(RuntimeError, match="storage"):
        by_nested_autograd(model, points()[rank::WORLD]).backward()
    model = DistributedDataParallel(network(), static_graph=True)
    by_nested_autograd(model, points()[rank::WORLD]).backward()
    with pytest.raises(AssertionError):
        assert_gradients(model, expected)


def test_what_the_documentation_says_of_nested_autograd(ranks: Ranks) -> None:
    ranks(nested_autograd)


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused, self.idle = network(), network(), nn.Linear(2, 2).double()

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        return {"used": self.used(x), "others": [self.unused(x), x]}


def parts_unused(rank: int) -> None:
    expected = gradients(network(), points(), by_variables)
    model = DistributedDataParallel(TwoHeads(), find_unused_parameters=True)
    for _ in range(3):
        model.zero_grad()
        by_variables(lambda x: model(x)["used"], points()[rank::WORLD]).backward()
        assert_gradients(model.module.used, expected)
        assert all(p.grad is None for p in model.module.unused.parameters())
        assert all(p.grad is None for p in model.module.idle.parameters())


def test_unused_parameters_are_found(ranks: Ranks) -> None:
    ranks(parts_unused)


def bias_unused(rank: int) -> None:
    expected = gradients(network(), points(), pure)
    assert expected[-2] is None
    for wrapper in ("DDP, find_unused_parameters", "FSDP, layer by layer"):
        model = WRAPPERS[wrapper](network())
        for _ in range(3):
            model.zero_grad()
            pure(model, points()[rank::WORLD]).backward()
            assert_gradients(model, expected)
    # without it torch finds out in the second step, and says so
    model = DistributedDataParallel(network())
    pure(model, points()[rank::WORLD]).backward()
    with pytest.raises(RuntimeError, match="Expected to have finished reduction"):
        model(points())


def test_a_bias_that_a_laplacian_does_not_see(ranks: Ranks) -> None:
    ranks(bias_unused)


def accumulated(rank: int) -> None:
    expected = gradients(network(), points(), by_variables)
    mine = points()[rank::WORLD]
    for options in ({}, {"find_unused_parameters": True}):
        model = DistributedDataParallel(network(), **options)
        for _ in range(2):
            model.zero_grad()
            with model.no_sync():
                for n in range(2):
                    (by_variables(model, mine[n : n + 1]) / 3).backward()
            (by_variables(model, mine[2:]) / 3).backward()
            assert_gradients(model, expected)
    model = sharded(network())
    for _ in range(2):
        model.zero_grad()
        for n in range(3):
            model.set_requires_gradient_sync(n == 2)
            (by_variables(model, mine[n : n + 1]) / 3).backward()
        assert_gradients(model, expected)


def test_gradients_accumulate_without_synchronisation(ranks: Ranks) -> None:
    ranks(accumulated)


def precisions(rank: int) -> None:
    expected = gradients(network(), points(), by_variables)
    mine = points()[rank::WORLD]
    for dtype, within in ((torch.float32, 1e-6), (torch.bfloat16, 2e-2)):
        policy = MixedPrecisionPolicy(
            param_dtype=dtype, reduce_dtype=torch.float64, output_dtype=torch.float64
        )
        model = sharded(network(), mp_policy=policy)
        u = model(tt.TaylorTensor(mine))
        assert u.dtype == u.coeffs[2].dtype == torch.float64
        by_variables(model, mine).backward()
        assert all(p.grad.dtype == torch.float64 for p in model.parameters())
        assert_gradients(model, expected, within)


def test_a_mixed_precision_policy_casts_the_coefficients(ranks: Ranks) -> None:
    ranks(precisions)


def written(rank: int) -> None:
    """A layer that writes its input in place, and one that returns a view."""

    class Writing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8).double()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x.mul_(2)).view(-1, 2, 4)

    def model(wrap: Callable) -> nn.Module:
        torch.manual_seed(0)
        first, last = nn.Linear(3, 8).double(), nn.Linear(4, 1).double()
        return wrap(nn.Sequential(first, nn.Tanh(), wrap(Writing()), last))

    expected = gradients(model(lambda m: m), points(), by_collapsed)
    wrapped = model(fully_shard)
    with pytest.warns(UserWarning, match="returned a view"):
        by_collapsed(wrapped, points()[rank::WORLD]).backward()
    assert_gradients(wrapped, expected)


def test_layers_that_write_in_place_and_return_views(ranks: Ranks) -> None:
    ranks(written)


class Residual(nn.Module):
    """A module that differentiates what it computes by what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network()

    def forward(self, X: tt.TaylorTensor) -> tt.TaylorTensor:
        u = self.network(X)
        return tt.laplacian(u, X[:, 0:1], X[:, 1:2], X[:, 2:3]) + u


class Learned(nn.Module):
    """A module that returns a series with parameters in the directions only."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(network(), nn.Linear(1, 3).double())

    def forward(self, x: torch.Tensor) -> tt.TaylorTensor:
        return tt.TaylorTensor(x, direction=self.network(x))


def made_inside(rank: int) -> None:
    def residual(f: Callable, x: torch.Tensor) -> torch.Tensor:
        return (f(tt.variables(x)).value ** 2).mean()

    def moved(f: Callable, x: torch.Tensor) -> torch.Tensor:
        return (torch.sin(f(x)).coeffs[2] ** 2).mean()

    for module, loss in ((Residual, residual), (Learned, moved)):
        expected = gradients(module(), points(), loss)
        for wrapper in WRAPPERS:
            if wrapper == "FSDP, layer by layer":
                continue
            model = WRAPPERS[wrapper](module())
            for _ in range(2):
                model.zero_grad()
                loss(model, points()[rank::WORLD].requires_grad_()).backward()
                assert_gradients(model, expected)


def test_modules_that_differentiate_and_that_make_series(ranks: Ranks) -> None:
    ranks(made_inside)


def compiled(rank: int) -> None:
    expected = gradients(network(), points(), by_line)
    model = DistributedDataParallel(network(), find_unused_parameters=True)
    fast = torch.compile(model, backend="aot_eager")
    for _ in range(2):
        model.zero_grad()
        by_line(fast, points()[rank::WORLD]).backward()
        assert_gradients(model, expected)


@pytest.mark.slow
def test_a_compiled_model(ranks: Ranks) -> None:
    ranks(compiled)


def test_what_data_parallel_looks_for() -> None:
    weight = torch.ones(3, 3, requires_grad=True)
    x = tt.TaylorTensor(tt.TaylorTensor(torch.ones(2, 3)), order=1) @ weight
    plain = torch.ones(2)
    found = list(data_parallel._find_tensors({"a": [x, plain], "b": 3}))
    assert any(t is plain for t in found)
    assert not any(isinstance(t, tt.TaylorTensor) for t in found)
    # c_0 and c_1 of the inner series, in both blocks of the outer one that are not zero
    assert len(found) == 1 + 2 + 1
    assert all(t.grad_fn is not None for t in found if t is not plain)


# --- directions ---------------------------------------------------------------------------------


def split(rank: int, coordinates: int) -> None:
    def loss(laplacian: Callable) -> Loss:
        def of(f: Callable, x: torch.Tensor) -> torch.Tensor:
            lap, u = laplacian(f, return_value=True)(x)
            return ((lap + u) ** 2).mean()

        return of

    x = points(4, coordinates)
    expected = gradients(network(coordinates), x, loss(tt.func.laplacian))
    exact = tt.func.laplacian(network(coordinates))(x)
    for wrapper in ("DDP", "FSDP, layer by layer"):
        model = WRAPPERS[wrapper](network(coordinates))
        torch.testing.assert_close(tt.distributed.laplacian(model)(x), exact)
        model.zero_grad()
        for _ in range(2):
            model.zero_grad()
            loss(tt.distributed.laplacian)(model, x).backward()
            assert_gradients(model, expected)


@pytest.mark.parametrize("coordinates", [1, 4, 5])
def test_directions_of_a_laplacian_are_split(ranks: Ranks, coordinates: int) -> None:
    ranks(split, coordinates)


def other_operators(rank: int) -> None:
    model, x = network(), points()
    factor, drift = torch.randn(3, 3, dtype=x.dtype), torch.randn(3, dtype=x.dtype)
    dist.broadcast(factor, 0)
    dist.broadcast(drift, 0)
    expected = tt.func.weighted_laplacian(model, factor=factor, drift=drift)(x)
    given = tt.distributed.weighted_laplacian(model, factor, drift=drift, chunk_size=1)(x)
    torch.testing.assert_close(given, expected)
    per_sample = factor * x[:, :1, None]
    expected = tt.func.weighted_laplacian(model, factor=per_sample)(x)
    given = tt.distributed.weighted_laplacian(model, lambda x: factor * x[:, :1, None])(x)
    torch.testing.assert_close(given, expected)

    # several outputs, one of them constant; all axes one sample
    def outputs(x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"a": (x**3).sum(), "b": x.new_ones(())}

    given = tt.distributed.laplacian(outputs, event_dims=2)(x)
    torch.testing.assert_close(given["a"], 6 * x.sum())
    assert given["b"] == 0

    # a series of Laplacians along a line; its second derivatives, whose gradient is a sum as well
    line = tt.TaylorTensor(x)
    for ours, theirs in zip(
        tt.distributed.laplacian(model)(line).coeffs,
        tt.func.laplacian(model)(line).coeffs,
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)

    # a group of one has all directions
    alone = [dist.new_group([r]) for r in range(WORLD)][rank]
    torch.testing.assert_close(
        tt.distributed.laplacian(model, group=alone)(x), tt.func.laplacian(model)(x)
    )


def test_other_operators_outputs_and_groups(ranks: Ranks) -> None:
    ranks(other_operators)


def work(rank: int) -> None:
    """The directions of one process, a zero one where they do not divide; chunk by chunk."""
    seen: list[torch.Tensor] = []
    x = points(4, 5)

    def watched(x: tt.TaylorTensor) -> torch.Tensor:
        seen.append(x.coeffs[1][:, 0])
        return (x**2).sum(-1)

    tt.distributed.laplacian(watched)(x)
    units = torch.eye(5, dtype=x.dtype)
    zero = units.new_zeros(1, 5)
    assert torch.equal(seen[0], torch.cat([units[rank::WORLD], zero])[:3])
    # every call of a sharded model communicates
    model = sharded(network(5))
    laplacian = tt.distributed.laplacian(model, chunk_size=1)(x)
    torch.testing.assert_close(laplacian, tt.func.laplacian(network(5))(x))


def test_the_work_is_shared(ranks: Ranks) -> None:
    ranks(work)


def test_one_process_is_told_to_start_a_group() -> None:
    with pytest.raises(RuntimeError, match=r"init_process_group first, or use taylortorch\.func"):
        tt.distributed.laplacian(torch.sin)


# --- checkpoints --------------------------------------------------------------------------------

STEPS = 6


def resumed(rank: int, folder: str, wrapper: str) -> None:
    def start() -> tuple[nn.Module, torch.optim.Optimizer]:
        model = WRAPPERS[wrapper](network())
        return model, torch.optim.Adam(model.parameters(), lr=1e-2)

    def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> list[float]:
        losses = []
        for step in steps:
            generator = torch.Generator().manual_seed(WORLD * step + rank)
            x = torch.randn(4, 3, dtype=torch.float64, generator=generator)
            optimizer.zero_grad()
            loss = by_variables(model, x)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    straight, optimizer = start()
    losses = train(straight, optimizer, range(STEPS))

    model, optimizer = start()
    first = train(model, optimizer, range(STEPS // 2))
    if wrapper.startswith("FSDP"):
        state = dict(zip(("model", "optim"), get_state_dict(model, optimizer), strict=True))
        dcp.save(state, checkpoint_id=folder)
    elif rank == 0:
        torch.save(
            {"model": model.module.state_dict(), "optim": optimizer.state_dict()}, f"{folder}.pt"
        )
    dist.barrier()

    model, optimizer = start()
    if wrapper.startswith("FSDP"):
        state = dict(zip(("model", "optim"), get_state_dict(model, optimizer), strict=True))
        dcp.load(state, checkpoint_id=folder)
        set_state_dict(
            model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optim"]
        )
    else:
        state = torch.load(f"{folder}.pt", weights_only=True)
        model.module.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optim"])
    rest = train(model, optimizer, range(STEPS // 2, STEPS))
    assert first + rest == losses, "bit for bit"
    for a, b in zip(model.parameters(), straight.parameters(), strict=True):
        assert torch.equal(whole(a), whole(b))


@pytest.mark.parametrize("wrapper", ["DDP", "FSDP, layer by layer"])
def test_a_resumed_run_is_the_uninterrupted_one(ranks: Ranks, tmp_path: Path, wrapper: str) -> None:
    ranks(resumed, str(tmp_path / "checkpoint"), wrapper)


# --- what else torch has for several devices ----------------------------------------------------


def by_dtensors(rank: int) -> None:
    mesh = init_device_mesh("cpu", (WORLD,))
    expected = gradients(network(), points(), by_collapsed)
    model = network()
    plan = {"0.weight": Shard(0), "0.bias": Shard(0), "2.weight": Shard(1)}
    for layer, module in model.named_modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            placement = plan.get(f"{layer}.{name}", Replicate())
            parts = distribute_tensor(parameter.detach(), mesh, [placement])
            setattr(module, name, nn.Parameter(parts))
    x = distribute_tensor(points(), mesh, [Replicate()])
    units = torch.eye(3, dtype=torch.float64).unsqueeze(1)
    units = distribute_tensor(units, mesh, [Replicate()])
    u = model(tt.TaylorTensor(x, directions=units, weights=1.0))
    ((2 * u.coeffs[2] + u.value) ** 2).mean().backward()
    assert_gradients(model, expected)

    # the input hooks of parallelize_module make a DTensor of the series
    parallel = parallelize_module(network(), mesh, {"0": ColwiseParallel()})
    with pytest.raises(tt.UnsupportedFunction):
        parallel(tt.TaylorTensor(points()))


def test_tensor_parallel_by_dtensors(ranks: Ranks) -> None:
    ranks(by_dtensors)


def test_data_parallel_on_one_device_and_on_several() -> None:
    x = tt.TaylorTensor(points())
    # without a GPU it calls the module
    assert isinstance(nn.DataParallel(network())(x), tt.TaylorTensor)
    with pytest.raises(tt.UnsupportedFunction, match=r"DataParallel.*DistributedDataParallel"):
        Scatter.apply([0, 1], None, 0, x)
    with pytest.raises(tt.UnsupportedFunction, match=r"SyncBatchNorm.*LayerNorm"):
        SyncBatchNormFunction.apply(x, None, None, None, None, 1e-5, 0.1, None, 2)
    norm = nn.SyncBatchNorm(3).double().eval()
    torch.testing.assert_close(norm(x).coeffs, nn.BatchNorm1d(3).double().eval()(x).coeffs)


def test_a_hook_watches_the_gradients_of_all_coefficients() -> None:
    weight = torch.ones(3, 3, dtype=torch.float64, requires_grad=True)
    x = tt.TaylorTensor(points()) @ weight
    seen: list[torch.Tensor] = []
    handle = x.register_hook(seen.append)
    (x.coeffs[0].sum() + 2 * x.coeffs[1].sum()).backward()
    assert len(seen) == 2
    assert sorted(g.unique().item() for g in seen) in ([1, 2], [1, 12])
    handle.remove()
    (tt.TaylorTensor(points()) @ weight).register_hook(seen.append)
    assert len(seen) == 2

    y = tt.TaylorTensor(points()) @ weight
    y.register_hook(lambda g: 2 * g)
    with pytest.raises(tt.UnsupportedFunction, match=r"cannot replace it.*x\.coeffs"):
        y.value.sum().backward()


# --- the example --------------------------------------------------------------------------------


def joined_by_a_file(store: str, rank: int) -> None:
    """Let the script begin its group without a port, which another program could take."""
    dist.init_process_group = functools.partial(
        dist.init_process_group, store=dist.FileStore(store, WORLD), rank=rank, world_size=WORLD
    )


def test_the_example_in_two_processes(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    scripts = [
        Script(
            ROOT / "examples" / "distributed_pinn.py",
            *("--quick", "--threads", 1, "--out", out),
            log=tmp_path / f"log{rank}",
            environment={"RANK": str(rank), "WORLD_SIZE": str(WORLD), "LOCAL_RANK": str(rank)},
            before=functools.partial(joined_by_a_file, str(tmp_path / "store"), rank),
        )
        for rank in range(WORLD)
    ]
    said = [script.finish() for script in scripts]
    assert "2 processes" in said[0]
    assert next(out.iterdir()).stat().st_size > 10_000


@pytest.mark.slow
def test_the_example_under_torchrun(tmp_path: Path) -> None:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        f"{sys.executable} -m torch.distributed.run --standalone --nproc-per-node {WORLD} "
        f"examples/distributed_pinn.py --quick --out {tmp_path}".split(),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 processes" in done.stdout
    assert next(tmp_path.iterdir()).stat().st_size > 10_000
