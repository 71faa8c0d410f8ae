"""A Taylor loss trains under PyTorch Lightning: mixed precision, compiled, and both."""

from __future__ import annotations

import importlib
import logging
import warnings
from typing import Any

import pytest
import torch
from torch import nn

import taylortorch as tt

pytestmark = pytest.mark.integrations

SOURCE = 2 * torch.pi**2


def residual(u: Any, x: Any) -> Any:
    """Of Poisson's equation on the unit square."""
    source = SOURCE * torch.sin(torch.pi * x).prod(-1, keepdim=True)
    return tt.laplacian(u, x) + source


def by_autograd(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    x = x.requires_grad_()
    u = network(x)
    (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    second = [
        torch.autograd.grad(slope[:, i].sum(), x, create_graph=True)[0][:, i : i + 1]
        for i in range(2)
    ]
    source = SOURCE * torch.sin(torch.pi * x).prod(-1, keepdim=True)
    return (sum(second) + source).square().mean()


def by_series(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    x = tt.variables(x=x, derivatives="laplacian(x)")
    return residual(network(x), x).square().mean().value


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 1)
    )


def fitted(loss: Any, epochs: int = 8, compiled: str = "", **options: Any) -> torch.Tensor:
    """The losses of the steps of a run with Lightning's trainer."""
    lightning = importlib.import_module("lightning.pytorch")

    class Solver(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = network()
            self.loss = torch.compile(loss, backend=compiled) if compiled else loss
            self.losses: list[torch.Tensor] = []

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            value = self.loss(self.network, batch)
            self.log("loss", value)
            self.losses.append(value.detach())
            return value

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.network.parameters(), lr=1e-2)

    torch.manual_seed(1)
    points = torch.utils.data.DataLoader(torch.rand(64, 2), batch_size=32)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        solver = Solver()
        lightning.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            **options,
        ).fit(solver, points)
    return torch.stack(solver.losses)


def test_the_losses_of_autograd() -> None:
    torch.testing.assert_close(fitted(by_series), fitted(by_autograd), rtol=1e-9, atol=0)


def test_compiled() -> None:
    torch.testing.assert_close(
        fitted(by_series, 3, compiled="aot_eager"), fitted(by_series, 3), rtol=1e-9, atol=0
    )


@pytest.mark.parametrize("compiled", ["", "inductor"])
def test_bf16_mixed(compiled: str) -> None:
    """Within the precision of bfloat16 of the run in single precision, and it learns."""
    torch.set_default_dtype(torch.float32)
    single = fitted(by_series)
    mixed = fitted(by_series, compiled=compiled, precision="bf16-mixed")
    assert mixed.dtype == torch.float32
    assert not torch.equal(mixed, single)
    torch.testing.assert_close(mixed, single, rtol=0.15, atol=0)
    assert mixed[-1] < 0.7 * mixed[0]


def test_gradient_clipping_and_accumulation() -> None:
    options = {"gradient_clip_val": 0.5, "accumulate_grad_batches": 2}
    torch.testing.assert_close(
        fitted(by_series, **options), fitted(by_autograd, **options), rtol=1e-9, atol=0
    )
