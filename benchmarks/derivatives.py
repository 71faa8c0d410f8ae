"""The torch contenders: each makes, from a model and its inputs, what returns the derivatives.

While it runs ``torch.is_grad_enabled()`` tells a training step, whose derivatives must be
differentiable, from a forward pass, for which nested autograd keeps no graph of the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.func import grad, grad_and_value, hessian, jvp, vmap

import taylortorch as tt

from .ways import Unavailable

MIXED = "A jet along one direction has no mixed derivatives."
Tensors = tuple[torch.Tensor, ...]
Evaluate = Callable[..., Tensors]


def plain(model: nn.Module, *inputs: torch.Tensor) -> Evaluate:
    """The model alone: the floor."""
    return lambda *inputs: (model(*inputs),)


def pulled_back(f: Callable[[torch.Tensor, bool], Tensors]) -> Evaluate:
    """A way by reverse mode, from ``f(x, training)`` of an ``x`` that requires grad."""

    def evaluate(x: torch.Tensor) -> Tensors:
        training = torch.is_grad_enabled()
        with torch.enable_grad():
            return f(x.detach().requires_grad_(), training)

    return evaluate


def torch_jet() -> Any:
    """The package ``jet`` of torch-jet."""
    try:
        import jet
    except (ImportError, SyntaxError) as error:
        why = "needs Python 3.12" if isinstance(error, SyntaxError) else "is not installed"
        raise Unavailable("not installed", f"torch-jet (jet-for-pytorch) {why}.") from None
    return jet


def captured(f: Callable, *inputs: torch.Tensor) -> Callable:
    """A function as torch-jet's own benchmark runs it: traced, common terms computed once."""
    graph, _ = torch_jet().capture_graph(f, inputs)
    torch_jet().common_subexpression_elimination(graph.graph)
    graph.recompile()
    return graph


# --- along a line: u, u', ..., u^(K) ------------------------------------------------------------


def line_taylor(order: int) -> Callable[..., Evaluate]:
    """One TaylorTensor of this order."""
    return lambda model, x: lambda x: model(tt.TaylorTensor(x, order=order)).derivatives


def line_nested(order: int) -> Callable[..., Evaluate]:
    """``autograd.grad`` of the sum of the previous derivative, for all samples at once."""

    def make(model: nn.Module, x: torch.Tensor) -> Evaluate:
        def f(x: torch.Tensor, training: bool) -> Tensors:
            found = [model(x)]
            for k in range(1, order + 1):
                keep = training or k < order
                found += torch.autograd.grad(found[-1].sum(), x, create_graph=keep)
            return tuple(found)

        return pulled_back(f)

    return make


def line_loop(model: nn.Module, x: torch.Tensor) -> Evaluate:
    """Value, first and second derivative of one sample after the other."""

    def f(x: torch.Tensor, training: bool) -> Tensors:
        found: list[list[torch.Tensor]] = [[], [], []]
        for sample in x.unbind():
            u = model(sample)
            (u_x,) = torch.autograd.grad(u, sample, create_graph=True)
            (u_xx,) = torch.autograd.grad(u_x, sample, create_graph=training)
            for column, d in zip(found, (u, u_x, u_xx), strict=True):
                column.append(d)
        return tuple(map(torch.stack, found))

    return pulled_back(f)


def line_jvp(order: int) -> Callable[..., Evaluate]:
    """``torch.func.jvp`` of ``jvp`` ..., the lower derivatives taken along."""
    names = ["x" * k for k in range(order + 1)]

    def make(model: nn.Module, x: torch.Tensor) -> Evaluate:
        def evaluate(x: torch.Tensor) -> Tensors:
            found = by_jvp(jvp, lambda point: model(point["x"]), names, {"x": x}, torch.ones_like)
            return tuple(found[name] for name in names)

        return evaluate

    return make


def line_jvp_of_grad(model: nn.Module, x: torch.Tensor) -> Evaluate:
    """``vmap`` of ``jvp`` of ``grad_and_value``, order 2."""

    def sample(x: torch.Tensor) -> Tensors:
        both = grad_and_value(lambda x: model(x).squeeze())
        (u_x, u), (u_xx, _) = jvp(both, (x,), (torch.ones_like(x),))
        return u.expand_as(x), u_x, u_xx

    return lambda x: vmap(sample)(x)


def line_torch_jet(order: int) -> Callable[..., Evaluate]:
    """One jet of torch-jet."""

    def make(model: nn.Module, x: torch.Tensor) -> Evaluate:
        f = torch_jet().jet(model, (x,))
        v, zeros = torch.ones_like(x), [torch.zeros_like(x)] * (order - 1)
        return captured(lambda x: f((x, v, *zeros)), x)

    return make


# --- equations: the derivatives by name ---------------------------------------------------------


def by_jvp(
    jvp: Callable,
    f: Callable[[dict[str, Any]], Any],
    wanted: Iterable[str],
    point: dict[str, Any],
    ones: Callable[[Any], Any],
) -> dict[str, Any]:
    """The derivatives by the letters of each name; of torch as of JAX.

    One ``jvp`` of all that a coordinate is applied to, whose values are used where wanted too.
    """
    found: dict[str, Any] = {}
    for c in sorted(point, key=lambda c: -max(name.count(c) for name in wanted)):
        lower = sorted({name[:-1] for name in wanted if name not in found and name[-1:] == c})
        if not lower:
            continue

        def inner(z: Any, c: str = c, lower: Sequence[str] = lower) -> dict[str, Any]:
            return by_jvp(jvp, f, lower, {**point, c: z}, ones)

        values, slopes = jvp(inner, (point[c],), (ones(point[c]),))
        found |= {name: values[name] for name in lower}
        found |= {name + c: slopes[name] for name in lower}
    if "" in wanted and "" not in found:
        found[""] = f(point)
    return found


Wanted = Sequence[tuple[str, int]]
"""Derivatives by the letters of their coordinates, and of which output each is taken."""


def _names(wanted: Wanted) -> list[str]:
    return sorted({name for name, _ in wanted})


def of_outputs(found: dict[str, Any], wanted: Wanted) -> tuple[Any, ...]:
    """The columns that are wanted, of derivatives that have one for each output."""
    return tuple(found[name][..., n : n + 1] for name, n in wanted)


def equation_taylor(letters: str, wanted: Wanted) -> Callable[..., Evaluate]:
    """``variables`` and ``d``."""
    names = _names(wanted)

    def make(model: nn.Module, *inputs: torch.Tensor) -> Evaluate:
        def evaluate(*inputs: torch.Tensor) -> Tensors:
            named = dict(zip(letters, inputs, strict=True))
            asked = [name for name in names if name]
            columns = dict(zip(letters, tt.variables(**named, derivatives=asked), strict=True))
            u = model(torch.cat(list(columns.values()), -1))
            found = {
                name: tt.d(u, *(columns[c] for c in name)).value if name else u.value
                for name in names
            }
            return of_outputs(found, wanted)

        return evaluate

    return make


def equation_nested(letters: str, wanted: Wanted) -> Callable[..., Evaluate]:
    """``autograd.grad`` of each derivative that others are made from, by all they need at once."""

    def make(model: nn.Module, *inputs: torch.Tensor) -> Evaluate:
        def evaluate(*inputs: torch.Tensor) -> Tensors:
            point = {c: x.detach().requires_grad_() for c, x in zip(letters, inputs, strict=True)}
            columns = model(torch.cat(tuple(point.values()), -1)).split(1, -1)
            found = {("", n): column for n, column in enumerate(columns)}
            queue = list(found)
            while queue:
                name, n = queue.pop()
                longer = {w[: len(name) + 1] for w, m in wanted if m == n and w.startswith(name)}
                more = sorted(longer - {name})
                if more:
                    by = [point[w[-1]] for w in more]
                    slopes = torch.autograd.grad(found[name, n].sum(), by, create_graph=True)
                    keys = [(w, n) for w in more]
                    found.update(zip(keys, slopes, strict=True))
                    queue += keys
            return tuple(found[key] for key in wanted)

        return evaluate

    return make


def equation_jvp(letters: str, wanted: Wanted) -> Callable[..., Evaluate]:
    """``torch.func.jvp`` of ``jvp`` ..."""

    def make(model: nn.Module, *inputs: torch.Tensor) -> Evaluate:
        def f(point: dict[str, torch.Tensor]) -> torch.Tensor:
            return model(torch.cat([point[c] for c in letters], -1))

        def evaluate(*inputs: torch.Tensor) -> Tensors:
            point = dict(zip(letters, inputs, strict=True))
            return of_outputs(by_jvp(jvp, f, _names(wanted), point, torch.ones_like), wanted)

        return evaluate

    return make


def equation_torch_jet(letters: str, wanted: Wanted) -> Callable[..., Evaluate]:
    """One jet of torch-jet for each coordinate."""

    def make(model: nn.Module, *inputs: torch.Tensor) -> Evaluate:
        if any(len(set(name)) > 1 for name, _ in wanted):
            raise Unavailable("cannot", MIXED)
        point = torch.cat(inputs, -1)
        f, zero = torch_jet().jet(model, (point,)), torch.zeros_like(point)
        highest = {c: max(name.count(c) for name, _ in wanted) for c in letters}
        units = [torch.zeros_like(point) for _ in letters]
        for n, v in enumerate(units):
            v[..., n] = 1

        def evaluate(*inputs: torch.Tensor) -> Tensors:
            point, found = torch.cat(inputs, -1), {}
            for c, v in zip(letters, units, strict=True):
                terms = f((point, v, *[zero] * (highest[c] - 1)))
                found |= {c * k: d for k, d in enumerate(terms)}
            return of_outputs(found, wanted)

        return captured(evaluate, *inputs)

    return make


# --- the Laplacian and the biharmonic operator --------------------------------------------------


def units(x: torch.Tensor, event_dims: int) -> torch.Tensor:
    """The directions of all coordinates, ``(D, 1, ..., 1, *event)``."""
    event = x.shape[x.ndim - event_dims :]
    eye = torch.eye(event.numel(), dtype=x.dtype, device=x.device)
    return eye.reshape(-1, *(1,) * (x.ndim - event_dims), *event)


def laplacian_taylor(event_dims: int = 1) -> Callable[..., Evaluate]:
    """``tt.func.laplacian``."""

    def make(model: nn.Module, x: torch.Tensor) -> Evaluate:
        f = tt.func.laplacian(model, event_dims=event_dims)
        return lambda x: (f(x),)

    return make


def laplacian_written_out(event_dims: int = 1) -> Callable[..., Evaluate]:
    """The collapsed Laplacian with all D directions written out, through the public class."""

    def make(model: nn.Module, x: torch.Tensor) -> Evaluate:
        def evaluate(x: torch.Tensor) -> Tensors:
            y = model(tt.TaylorTensor(x, directions=units(x, event_dims), weights=1))
            return (y.derivatives[2],)

        return evaluate

    return make


def _trace_by_reverse(u: torch.Tensor, x: torch.Tensor, keep: bool) -> torch.Tensor:
    """The Laplacian of ``u (N, 1)``: one reverse pass for each coordinate of the gradient."""
    (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    flat = slope.flatten(1)
    total = torch.zeros_like(u)
    for i in range(flat.shape[1]):
        (row,) = torch.autograd.grad(flat[:, i].sum(), x, create_graph=keep, retain_graph=True)
        total = total + row.flatten(1)[:, i : i + 1]
    return total


def laplacian_nested(model: nn.Module, x: torch.Tensor) -> Evaluate:
    """Reverse mode over reverse mode."""
    return pulled_back(lambda x, training: (_trace_by_reverse(model(x), x, training),))


def laplacian_hvp(event_dims: int = 1) -> Callable[..., Evaluate]:
    """``vmap`` over the coordinates of a Hessian-vector product, forward over reverse."""

    def make(model: nn.Module, x: torch.Tensor) -> Evaluate:
        directions = units(x, event_dims)

        def evaluate(x: torch.Tensor) -> Tensors:
            slope = grad(lambda x: model(x).sum())

            def second(v: torch.Tensor) -> torch.Tensor:
                v = v.expand_as(x)
                return (jvp(slope, (x,), (v,))[1] * v).flatten(1).sum(1, keepdim=True)

            return (vmap(second)(directions).sum(0),)

        return evaluate

    return make


def laplacian_hessian(model: nn.Module, x: torch.Tensor) -> Evaluate:
    """The trace of ``vmap(hessian)``."""

    def sample(x: torch.Tensor) -> torch.Tensor:
        n = x.numel()
        return hessian(lambda x: model(x).squeeze(-1))(x).reshape(n, n).trace().unsqueeze(0)

    return lambda x: (vmap(sample)(x),)


def laplacian_torch_jet(model: nn.Module, x: torch.Tensor) -> Evaluate:
    """The collapsed Laplacian of torch-jet."""
    f = captured(torch_jet().laplacian(model, (x[0],)), x[0])
    return lambda x: (vmap(f)(x),)


def biharmonic_taylor(model: nn.Module, x: torch.Tensor) -> Evaluate:
    """``tt.func.biharmonic``."""
    f = tt.func.biharmonic(model)
    return lambda x: (f(x),)


def biharmonic_nested(model: nn.Module, x: torch.Tensor) -> Evaluate:
    """The nested Laplacian of the nested Laplacian."""

    def f(x: torch.Tensor, training: bool) -> Tensors:
        return (_trace_by_reverse(_trace_by_reverse(model(x), x, True), x, training),)

    return pulled_back(f)


def biharmonic_hessian(model: nn.Module, x: torch.Tensor) -> Evaluate:
    """``vmap`` of the trace of the Hessian of the trace of the Hessian."""

    def sample(x: torch.Tensor) -> torch.Tensor:
        def laplacian(x: torch.Tensor) -> torch.Tensor:
            return hessian(lambda x: model(x).squeeze(-1))(x).trace()

        return hessian(laplacian)(x).trace().unsqueeze(0)

    return lambda x: (vmap(sample)(x),)


def biharmonic_torch_jet(model: nn.Module, x: torch.Tensor) -> Evaluate:
    """The collapsed biharmonic operator of torch-jet."""
    f = captured(torch_jet().bilaplacian(model, (x[0],)), x[0])
    return lambda x: (vmap(f)(x),)


# --- the biharmonic operator estimated from given Gaussian directions ---------------------------

SEED = 0


def drawn(x: torch.Tensor, samples: int) -> torch.Tensor:
    """The directions that ``tt.func.stochastic`` draws from a generator with this seed."""
    generator = torch.Generator(x.device).manual_seed(SEED)
    shape = (samples, 1, x.shape[-1])
    return torch.randn(shape, generator=generator, dtype=x.dtype, device=x.device)


def estimate_taylor(samples: int) -> Callable[..., Evaluate]:
    """``tt.func.stochastic.biharmonic``, with the same directions at every call."""

    def make(model: nn.Module, x: torch.Tensor) -> Evaluate:
        generator = torch.Generator(x.device)
        f = tt.func.stochastic.biharmonic(model, samples, generator=generator)

        def evaluate(x: torch.Tensor) -> Tensors:
            generator.manual_seed(SEED)
            return (f(x),)

        return evaluate

    return make


def estimate_directions(samples: int) -> Callable[..., Evaluate]:
    """The same from a TaylorTensor: a generator cannot be traced."""

    def make(model: nn.Module, x: torch.Tensor) -> Evaluate:
        directions = drawn(x, samples)
        weights = x.new_full((samples,), 8 / samples)

        def evaluate(x: torch.Tensor) -> Tensors:
            series = tt.TaylorTensor(x, directions=directions, weights=weights, order=4)
            return (model(series).coeffs[4],)

        return evaluate

    return make


def estimate_nested(samples: int) -> Callable[..., Evaluate]:
    """Four reverse passes for each direction."""

    def make(model: nn.Module, x: torch.Tensor) -> Evaluate:
        directions = drawn(x, samples)

        def f(x: torch.Tensor, training: bool) -> Tensors:
            u, total = model(x), 0
            for v in directions:
                d = u
                for k in range(4):
                    keep = training or k < 3
                    (slope,) = torch.autograd.grad(d.sum(), x, create_graph=keep, retain_graph=True)
                    d = (slope * v).sum(1, keepdim=True)
                total = total + d
            return (total / (3 * samples),)

        return pulled_back(f)

    return make


def estimate_jvp(samples: int) -> Callable[..., Evaluate]:
    """``vmap`` over the directions of a fourfold ``jvp``."""

    def make(model: nn.Module, x: torch.Tensor) -> Evaluate:
        directions = drawn(x, samples)

        def evaluate(x: torch.Tensor) -> Tensors:
            def fourth(v: torch.Tensor) -> torch.Tensor:
                f = model
                for _ in range(4):
                    f = _along(f, v)
                return f(x)

            return (vmap(fourth)(directions).sum(0) / (3 * samples),)

        return evaluate

    return make


def _along(f: Callable, v: torch.Tensor) -> Callable:
    return lambda x: jvp(f, (x,), (v.expand_as(x),))[1]


def estimate_torch_jet(samples: int) -> Callable[..., Evaluate]:
    """A collapsed jet of torch-jet along the directions."""

    def make(model: nn.Module, x: torch.Tensor) -> Evaluate:
        f = torch_jet().jet(model, (x,), collapsed=True)
        directions = drawn(x, samples).expand(samples, *x.shape)
        zeros = torch.zeros_like(directions)

        def evaluate(x: torch.Tensor) -> Tensors:
            fourth = f((x, directions, zeros, zeros, torch.zeros_like(x)))[4]
            return (fourth / (3 * samples),)

        return captured(evaluate, x)

    return make
