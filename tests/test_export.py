"""``torch.export`` of modules that take derivatives inside: values, gradients, batches of any size.

Its default mode runs Python as it is, on tensors without numbers; a size that is compared while it
does so becomes a condition on all later calls.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.export import Dim, export

import taylortorch as tt
from taylortorch.engine.adjoints import SMALL

F64 = torch.float64
WIDTH = 4


class Derived(nn.Module):
    """A network, and what of its derivatives its forward returns."""

    def __init__(self, taken: Callable[[nn.Module, torch.Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(
            nn.Linear(3, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, 1)
        ).double()
        self.taken = taken

    def forward(self, x: torch.Tensor) -> Any:
        return self.taken(self.net, x)


def along(order: int = 2, **how: Any) -> Callable:
    return lambda net, x: net(tt.TaylorTensor(x, order=order, **how)).derivatives


def axes() -> torch.Tensor:
    return torch.eye(3, dtype=F64).unsqueeze(1)


def burgers(net: nn.Module, points: torch.Tensor) -> torch.Tensor:
    x, t = tt.variables(points[:, :1], points[:, 1:2], order=2)
    u = net(torch.cat([x, t, x * t], 1))
    residual = tt.d(u, t) + u * tt.d(u, x) - 0.01 * tt.d(u, x, x)
    assert isinstance(residual, tt.TaylorTensor)
    return residual.value


def sliced(net: nn.Module, points: torch.Tensor) -> torch.Tensor:
    x = tt.variables(points, order=2)
    return tt.d(net(x), x[:, 1:2], x[:, :1]).value


def nested(net: nn.Module, x: torch.Tensor) -> Any:
    return net(tt.TaylorTensor(tt.TaylorTensor(x, order=1), order=1)).derivatives[1].derivatives


def written(net: nn.Module, x: torch.Tensor) -> Any:
    y = tt.TaylorTensor(x) * 1.0
    y[:, 0] = y[:, 1] ** 2
    y[:, 1:].mul_(3)
    return net(y).derivatives


KINDS: dict[str, Callable] = {
    "order 1": along(1),
    "line": along(3),
    "bundle": along(directions=axes()),
    "bundle, every sample its own": lambda net, x: along(directions=torch.stack([x, x + 1]))(
        net, x
    ),
    "collapsed": along(directions=axes(), weights=1),
    "nested": nested,
    "variables": burgers,
    "slice of a variable": sliced,
    "written": written,
    "laplacian": lambda net, x: tt.func.laplacian(net)(x),
    "hessian": lambda net, x: tt.func.hessian(net)(x),
    "jacfwd": lambda net, x: tt.func.jacfwd(net)(x),
    "biharmonic": lambda net, x: tt.func.biharmonic(net)(x),
}
every_kind = pytest.mark.parametrize("taken", KINDS.values(), ids=KINDS)


def batch(n: int) -> torch.Tensor:
    return torch.linspace(-0.9, 0.8, 3 * n, dtype=F64).reshape(n, 3)


def tensors(result: Any) -> list[torch.Tensor]:
    # torch 2.10 returns lists for tuples that contain one output more than once
    return [result] if isinstance(result, torch.Tensor) else list(result)


def gradients(module: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    loss = torch.stack([y.square().mean() for y in tensors(module(x))]).sum()
    names, parameters = zip(*module.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return {
        name: torch.zeros_like(p) if g is None else g
        for name, p, g in zip(names, parameters, found, strict=True)
    }


def same(got: nn.Module, expected: nn.Module, x: torch.Tensor) -> None:
    torch.testing.assert_close(tensors(got(x)), tensors(expected(x)), rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(gradients(got, x), gradients(expected, x), rtol=1e-9, atol=1e-10)


@every_kind
def test_a_batch_of_one_size(taken: Callable) -> None:
    module = Derived(taken)
    same(export(module, (batch(5),)).module(), module, batch(5))


# in eager mode, blocks of SMALL entries are recorded for the reverse pass in another way
LARGE = SMALL // WIDTH + 1


@every_kind
@pytest.mark.parametrize("traced", [5, LARGE])
def test_a_batch_of_any_size(taken: Callable, traced: int) -> None:
    module = Derived(taken)
    program = export(module, (batch(traced),), dynamic_shapes=({0: Dim("batch")},))
    # Dim: torch raises where a condition on the size was met; this is what it allows
    (allowed,) = program.range_constraints.values()
    assert allowed.lower <= 1
    assert allowed.upper > 10**9
    for n in (1, 2, 7, LARGE):
        same(program.module(), module, batch(n))


@every_kind
def test_a_size_left_to_torch(taken: Callable) -> None:
    module = Derived(taken)
    program = export(module, (batch(5),), dynamic_shapes=({0: Dim.AUTO},))
    (allowed,) = program.range_constraints.values()
    assert allowed.lower <= 2
    assert allowed.upper > 10**9
    same(program.module(), module, batch(LARGE))


def test_saved_loaded_decomposed() -> None:
    module = Derived(KINDS["laplacian"])
    program = export(module, (batch(5),), dynamic_shapes=({0: Dim("batch")},))
    same(program.run_decompositions().module(), module, batch(7))
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    same(torch.export.load(file).module(), module, batch(7))


def test_a_series_is_no_result_of_a_program() -> None:
    with pytest.raises(tt.UnsupportedFunction, match=r"torch\.export returns x\.value"):
        export(Derived(lambda net, x: net(tt.TaylorTensor(x))), (batch(5),))


@every_kind
def test_onnx(taken: Callable) -> None:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    module = Derived(taken)
    program = export(module, (batch(5),), dynamic_shapes=({0: Dim("batch")},))
    converted = torch.onnx.export(program, dynamo=True, verbose=False)
    assert converted is not None
    session = runtime.InferenceSession(converted.model_proto.SerializeToString())
    (given,) = session.get_inputs()
    for n in (1, 7):
        results = session.run(None, {given.name: batch(n).numpy()})
        got = [torch.as_tensor(y) for y in results]
        # the exporter writes numbers such as 1/3 in single precision
        torch.testing.assert_close(got, tensors(module(batch(n))), rtol=1e-5, atol=1e-7)
