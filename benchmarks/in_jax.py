"""The contenders in JAX: the same models and derivatives, as functions of ``(parameters, x)``.

The parameters are those of the torch model, in the order of ``model.parameters()``, so results and
gradients can be compared one by one. ``WAYS`` makes, from a function and its inputs, what returns
the derivatives; all of it is compiled by ``jax.jit``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import torch
from jax.experimental.jet import jet
from torch import nn

from . import models
from .derivatives import MIXED, Wanted, by_jvp, drawn, of_outputs
from .device import Device
from .ways import Unavailable

if jax.default_backend() != "cpu":
    # as torch does unless told otherwise; JAX would round the factors to TF32
    jax.config.update("jax_default_matmul_precision", "float32")

Function = Callable[..., Any]


def array(x: torch.Tensor) -> jax.Array:
    """A JAX array of the same numbers."""
    return jnp.array(x.detach().cpu().numpy())


def tensor(x: jax.Array, device: Device) -> torch.Tensor:
    """A torch tensor of the same numbers."""
    return torch.tensor(jax.device_get(x)).to(device.torch)


def parameters_of(model: nn.Module) -> list[jax.Array]:
    """The parameters, in the order of ``model.parameters()``."""
    return [array(p) for p in model.parameters()]


# --- the models ---------------------------------------------------------------------------------


def linear(p: Sequence[Any], x: Any) -> Any:
    """``x W^T + b``."""
    weight, bias = p
    return x @ weight.T + bias


def mlp(p: Sequence[Any], x: Any) -> Any:
    """A tanh network."""
    for n in range(0, len(p) - 2, 2):
        x = jnp.tanh(linear(p[n : n + 2], x))
    return linear(p[-2:], x)


def bell(p: Sequence[Any], x: Any) -> Any:
    """``models.Bell``."""
    return jnp.exp(-p[0] * x**2)


def hard_boundary(p: Sequence[Any], x: Any) -> Any:
    """``models.HardBoundary``."""
    return (1 - (x * x).sum(-1, keepdims=True)) * mlp(p, x)


def particles(p: Sequence[Any], x: Any) -> Any:
    """``models.Particles``."""
    return linear(p[-2:], jnp.tanh(mlp(p[:-2], x)).sum(-2))


def norm(p: Sequence[Any], x: Any) -> Any:
    """``models.Norm``."""
    centred = x - x.mean(-1, keepdims=True)
    return centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * p[0] + p[1]


def block(model: models.Block) -> Function:
    """``models.Block``."""

    def f(p: Sequence[Any], x: Any) -> Any:
        embed, norm1, norm2, qkv, out, up, down, energy = (p[n : n + 2] for n in range(0, 16, 2))
        h = linear(embed, x)
        parts = linear(qkv, norm(norm1, h))
        parts = parts.reshape(*h.shape[:-1], 3, model.heads, -1)
        q, k, v = (jnp.swapaxes(parts[..., n, :, :], -2, -3) for n in range(3))
        scores = q @ jnp.swapaxes(k, -1, -2) / (model.width / model.heads) ** 0.5
        mixed = jnp.swapaxes(jax.nn.softmax(scores, -1) @ v, -2, -3).reshape(h.shape)
        h = h + linear(out, mixed)
        h = h + linear(down, jax.nn.gelu(linear(up, norm(norm2, h)), approximate=True))
        return linear(energy, h).sum(-2)

    return f


def potential(model: models.Potential) -> Function:
    """``models.Potential``."""
    others, centres, sharpness = array(model.others), array(model.centres), model.sharpness

    def f(p: Sequence[Any], x: Any) -> Any:
        features, *rest = p
        networks = [rest[n : n + 4] for n in range(0, 20, 4)]
        between = x[..., :, None, :] - x[..., others, :]
        distance = jnp.sqrt((between**2).sum(-1, keepdims=True))
        basis = jnp.exp(-sharpness * (distance - centres) ** 2)
        h = features
        for filters, update in zip(networks[:2], networks[2:4], strict=True):
            h = h + mlp(update, (h[..., others, :] * mlp(filters, basis)).sum(-2))
        return mlp(networks[4], h).sum(-2)

    return f


FUNCTIONS: dict[type, Callable[[Any], Function]] = {
    nn.Sequential: lambda model: mlp,
    models.Bell: lambda model: bell,
    models.HardBoundary: lambda model: hard_boundary,
    models.Particles: lambda model: particles,
    models.Block: block,
    models.Potential: potential,
}


def function_of(model: nn.Module) -> Function:
    """The model as a function of ``(parameters, x)``."""
    return FUNCTIONS[type(model)](model)


# --- the derivatives ----------------------------------------------------------------------------


def line_jet(f: Function, x: Any, order: int) -> Function:
    """One jet of ``jax.experimental``."""

    def evaluate(p: Any, x: Any) -> Any:
        series = [jnp.ones_like(x), *[jnp.zeros_like(x)] * (order - 1)]
        value, terms = jet(lambda x: f(p, x), (x,), (series,))
        return (value, *terms)

    return evaluate


def line_nested(f: Function, x: Any, order: int) -> Function:
    """``jvp`` of ``jvp`` ..."""
    names = ["x" * k for k in range(order + 1)]

    def evaluate(p: Any, x: Any) -> Any:
        found = by_jvp(jax.jvp, lambda point: f(p, point["x"]), names, {"x": x}, jnp.ones_like)
        return tuple(found[name] for name in names)

    return evaluate


def equation_jet(f: Function, *inputs: Any, letters: str, wanted: Wanted) -> Function:
    """One jet for each coordinate."""
    if any(len(set(name)) > 1 for name, _ in wanted):
        raise Unavailable("cannot", MIXED)

    def evaluate(p: Any, *inputs: Any) -> Any:
        point, found = jnp.concatenate(inputs, -1), {}
        for n, c in enumerate(letters):
            v = jnp.zeros_like(point).at[..., n].set(1)
            highest = max(name.count(c) for name, _ in wanted)
            series = [v, *[jnp.zeros_like(point)] * (highest - 1)]
            value, terms = jet(lambda x: f(p, x), (point,), (series,))
            found |= {c * k: d for k, d in enumerate([value, *terms])}
        return of_outputs(found, wanted)

    return evaluate


def equation_nested(f: Function, *inputs: Any, letters: str, wanted: Wanted) -> Function:
    """``jvp`` of ``jvp`` ..."""
    names = sorted({name for name, _ in wanted})

    def evaluate(p: Any, *inputs: Any) -> Any:
        def u(point: dict[str, Any]) -> Any:
            return f(p, jnp.concatenate([point[c] for c in letters], -1))

        point = dict(zip(letters, inputs, strict=True))
        return of_outputs(by_jvp(jax.jvp, u, names, point, jnp.ones_like), wanted)

    return evaluate


def _units(sample: Any) -> Any:
    return jnp.eye(sample.size, dtype=sample.dtype).reshape(-1, *sample.shape)


def _by_sample(operator: Callable[[Function, Any], Any]) -> Callable[..., Function]:
    """A way from ``operator(f, x)`` of one sample."""

    def make(f: Function, x: Any) -> Function:
        return lambda p, x: (jax.vmap(lambda x: operator(lambda x: f(p, x), x))(x),)

    return make


def _laplacian_jet(f: Function, x: Any) -> Any:
    def second(v: Any) -> Any:
        return jet(f, (x,), ([v, jnp.zeros_like(v)],))[1][1]

    return jax.vmap(second)(_units(x)).sum(0)


def _laplacian_hvp(f: Function, x: Any) -> Any:
    slope = jax.grad(lambda x: f(x)[0])

    def second(v: Any) -> Any:
        return (jax.jvp(slope, (x,), (v,))[1] * v).sum()

    return jax.vmap(second)(_units(x)).sum(0)[None]


def _laplacian_folx(f: Function, x: Any) -> Any:
    import folx

    return folx.forward_laplacian(lambda x: f(x)[0])(x).laplacian[None]


def _fourth(f: Function, x: Any, v: Any) -> Any:
    zero = jnp.zeros_like(v)
    return jet(f, (x,), ([v, zero, zero, zero],))[1][3]


def _biharmonic_jet(f: Function, x: Any) -> Any:
    """``12 d_i^2 d_j^2 = (d_i + d_j)^4 + (d_i - d_j)^4 - 2 d_i^4 - 2 d_j^4``."""
    unit, n = _units(x), x.size
    along = jax.vmap(lambda v: _fourth(f, x, v))
    pairs = [(i, j) for i in range(n) for j in range(i)]
    both = jnp.stack([unit[i] + s * unit[j] for i, j in pairs for s in (1, -1)])
    # each i is in n - 1 pairs, whose terms count twice
    return along(both).sum(0) / 6 + along(unit).sum(0) * (1 - (n - 1) / 3)


def _biharmonic_hessian(f: Function, x: Any) -> Any:
    def laplacian(x: Any) -> Any:
        return jnp.trace(jax.hessian(lambda x: f(x)[0])(x))

    return jnp.trace(jax.hessian(laplacian)(x))[None]


def estimate_jet(f: Function, x: Any, samples: int) -> Function:
    """Jets of order 4 along the given directions."""
    device = "cpu" if jax.default_backend() == "cpu" else "cuda"
    directions = array(drawn(torch.zeros(x.shape, device=device), samples))

    def evaluate(p: Any, x: Any) -> Any:
        def along(v: Any) -> Any:
            return _fourth(lambda x: f(p, x), x, jnp.broadcast_to(v, x.shape))

        return (jax.vmap(along)(directions).sum(0) / (math.factorial(4) / 8 * samples),)

    return evaluate


WAYS: dict[str, Callable[..., Function]] = {
    "line_jet": line_jet,
    "line_nested": line_nested,
    "equation_jet": equation_jet,
    "equation_nested": equation_nested,
    "laplacian_jet": _by_sample(_laplacian_jet),
    "laplacian_hvp": _by_sample(_laplacian_hvp),
    "laplacian_folx": _by_sample(_laplacian_folx),
    "biharmonic_jet": _by_sample(_biharmonic_jet),
    "biharmonic_hessian": _by_sample(_biharmonic_hessian),
    "estimate_jet": estimate_jet,
}
