"""How a model that nobody here wrote is compared with reverse mode over reverse mode.

A ``Row`` names a package and makes one of its models, with random weights, as its authors wrote it.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from taylortorch import TaylorTensor
from tests.oracle import along, contracted

F64 = torch.float64


@dataclass(frozen=True)
class Row:
    """One model.

    Args:
        module: what is imported, and given to ``make``; its first part is the package.
        model: its name on the page.
        make: from the imported module: an ``nn.Module``, or any function of tensors.
        shape: of the tensor along whose random direction the model is expanded.
        use: how it is called on that tensor; by default as ``model(x)``.
        low, high: the range of the tensor's entries.
        order: the highest one compared; 2 where nested reverse mode takes seconds at 3.
        train: whether it is tested in train mode as well.
        tolerance: relative; 1e-5 where the package computes in single precision by itself.
        rules: what a user would register first, and undo.
    """

    module: str
    model: str
    make: Callable[[Any], Callable]
    shape: tuple[int, ...]
    use: Callable[[Any, Any], Any] = lambda model, x: model(x)
    low: float = -1.0
    high: float = 1.0
    order: int = 3
    train: bool = False
    tolerance: float = 1e-8
    rules: Callable[[Any], None] | None = None

    @property
    def package(self) -> str:
        return self.module.split(".")[0]

    def modes(self) -> tuple[str, ...]:
        return ("eval", "train") if self.train else ("eval",)

    def build(self, mode: str) -> Callable:
        """The model in double precision, the same weights every time."""
        torch.manual_seed(0)
        model = self.make(importlib.import_module(self.module))
        if isinstance(model, nn.Module):
            model = model.to(F64).train(mode == "train")
        return model

    def draw(self, generator: torch.Generator, *lead: int) -> torch.Tensor:
        return torch.rand(*lead, *self.shape, generator=generator, dtype=F64)

    def point(self, generator: torch.Generator) -> torch.Tensor:
        return self.low + (self.high - self.low) * self.draw(generator)

    def run(self, model: Callable, x: torch.Tensor) -> list[torch.Tensor]:
        torch.manual_seed(1)
        return tensors(self.use(model, x))


def tensors(outputs: Any) -> list[torch.Tensor]:
    """The floating-point and complex tensors among what a model returns."""
    if isinstance(outputs, torch.Tensor):
        return [outputs] if outputs.is_floating_point() or outputs.is_complex() else []
    if isinstance(outputs, dict):
        outputs = tuple(outputs.values())
    if not isinstance(outputs, (list, tuple)):
        return []
    return [tensor for output in outputs for tensor in tensors(output)]


def parameters(model: Callable) -> list[torch.Tensor]:
    return list(model.parameters()) if isinstance(model, nn.Module) else []


# --- what reverse mode over reverse mode cannot do by itself --------------------------------------


def _normal(x: torch.Tensor, axes: Any, eps: float) -> torch.Tensor:
    centred = x - x.mean(axes, keepdim=True)
    return centred / ((centred * centred).mean(axes, keepdim=True) + eps).sqrt()


def _scaled(x: torch.Tensor, weight: Any, bias: Any, *shape: int) -> torch.Tensor:
    x = x if weight is None else x * weight.reshape(shape or weight.shape)
    return x if bias is None else x + bias.reshape(shape or bias.shape)


def _layer_norm(
    input: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Any:
    axes = tuple(range(-len(normalized_shape), 0))
    return _scaled(_normal(input, axes, eps), weight, bias)


def _group_norm(
    input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Any:
    normal = _normal(input.reshape(len(input), num_groups, -1), -1, eps).reshape(input.shape)
    return _scaled(normal, weight, bias, 1, -1, *(1,) * (input.ndim - 2))


def _batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    shape = (1, -1) + (1,) * (input.ndim - 2)
    if training:
        normal = _normal(input, (0, *range(2, input.ndim)), eps)
    else:
        deviation = (running_var.reshape(shape) + eps).sqrt()
        normal = (input - running_mean.reshape(shape)) / deviation
    return _scaled(normal, weight, bias, *shape)


def _instance_norm(
    input: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    if not use_input_stats:
        return _batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    shape = (1, -1) + (1,) * (input.ndim - 2)
    return _scaled(_normal(input, tuple(range(2, input.ndim)), eps), weight, bias, *shape)


def _hardsigmoid(input: Any, inplace: bool = False) -> Any:
    return (input + 3).clamp(0, 6) / 6


def _hardswish(input: Any, inplace: bool = False) -> Any:
    return input * _hardsigmoid(input)


def _cdist(x1: Any, x2: Any, p: float = 2.0, **options: Any) -> Any:
    return (x1.unsqueeze(-2) - x2.unsqueeze(-3)).norm(p, dim=-1)


class Differentiable(TorchFunctionMode):
    """Functions whose own derivatives are wrong or missing from order 2 or 3 on, as formulas."""

    formulas = {  # noqa: RUF012
        F.layer_norm: _layer_norm,
        F.group_norm: _group_norm,
        F.batch_norm: _batch_norm,
        F.instance_norm: _instance_norm,
        F.hardsigmoid: _hardsigmoid,
        F.hardswish: _hardswish,
        torch.cdist: _cdist,
    }

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        return self.formulas.get(func, func)(*args, **(kwargs or {}))


# --- the comparison -------------------------------------------------------------------------------


def close(actual: Any, expected: Any, tolerance: float, what: str) -> None:
    for a, b in zip(actual, expected, strict=True):
        # a gradient that cancels is small beside the others, not beside itself
        size = max(float(b.detach().abs().max()) if b.numel() else 0.0, 1.0)
        torch.testing.assert_close(
            a.to(b.dtype),
            b,
            rtol=tolerance,
            atol=tolerance * size,
            msg=lambda message: f"{what}: {message}",
        )


def check_coefficients(row: Row, mode: str) -> None:
    """Value, statistics, coefficients and gradients along a random direction."""
    generator = torch.Generator().manual_seed(2)
    x0 = row.point(generator).requires_grad_()
    v = (row.draw(generator) - 0.5).requires_grad_()
    model = row.build(mode)
    plain, reference = copy.deepcopy(model), copy.deepcopy(model)

    outputs = row.run(model, TaylorTensor(x0, direction=v, order=row.order))
    state = torch.get_rng_state()
    values = row.run(plain, x0)
    assert torch.equal(torch.get_rng_state(), state), "it draws other random numbers"
    assert any(isinstance(y, TaylorTensor) for y in outputs), "no output is a series"
    close([getattr(y, "value", y) for y in outputs], values, row.tolerance, "value")
    if isinstance(model, nn.Module):
        buffers = [*model.buffers()]
        assert not any(isinstance(x, TaylorTensor) for x in buffers)
        close(tensors(buffers), tensors([*plain.buffers()]), row.tolerance, "statistics")

    weights = [torch.rand(y.shape, generator=generator, dtype=y.dtype) for y in outputs]
    shares = torch.rand(row.order + 1, generator=generator, dtype=F64)
    got = [contracted(outputs, weights, k) for k in range(row.order + 1)]
    with Differentiable(), sdpa_kernel(SDPBackend.MATH):
        expected = along(lambda xs: row.run(reference, xs[0]), [[x0, v]], row.order, weights)
    close(got, expected, row.tolerance, "derivatives")

    for names, wanted in (
        ("point and direction", ([x0, v], [x0, v])),
        ("parameters", (parameters(model), parameters(reference))),
    ):
        gradients = [
            list(_gradients(sum(a * f for a, f in zip(shares, terms, strict=True)), inputs))
            for terms, inputs in zip((got, expected), wanted, strict=True)
        ]
        close(*gradients, 10 * row.tolerance, f"gradients with respect to {names}")


def _gradients(functional: Any, inputs: list[torch.Tensor]) -> Iterator[torch.Tensor]:
    inputs = [x for x in inputs if x.requires_grad]
    if inputs:
        yield from torch.autograd.grad(
            functional, inputs, retain_graph=True, allow_unused=True, materialize_grads=True
        )


def check_directions(row: Row) -> None:
    """Two directions at once are two lines."""
    generator = torch.Generator().manual_seed(3)
    x0, V = row.point(generator).requires_grad_(), row.draw(generator, 2) - 0.5
    model = row.build("eval")
    together = row.run(model, TaylorTensor(x0, directions=V, order=2))
    for r, v in enumerate(V):
        alone = row.run(model, TaylorTensor(x0, direction=v, order=2))
        for y, line in zip(together, alone, strict=True):
            if isinstance(y, TaylorTensor):
                for k in (1, 2):
                    close([y.coeffs[k][r]], [line.coeffs[k]], row.tolerance, f"direction {r}")
