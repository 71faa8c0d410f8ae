"""Every layer of ``torch.nn``, unmodified, in training and in evaluation."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import inspect
import io
import pickle
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrizations, parametrize, prune
from torch.utils.checkpoint import (
    checkpoint,
    checkpoint_sequential,
    create_selective_checkpoint_contexts,
    set_checkpoint_early_stop,
)

import taylortorch as tt
from taylortorch import TaylorTensor
from taylortorch.engine import registry, samples
from taylortorch.rules import autocast
from tests.layers import EXCLUDED, F64, TABLE, Row, S
from tests.oracle import along, contracted

# torch's own, of prototypes, deprecated layers and slow kernels
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")

# --- the table ------------------------------------------------------------------------------------


def test_every_layer_is_in_the_table() -> None:
    exported = {
        name
        for name, member in vars(nn).items()
        if inspect.isclass(member) and issubclass(member, nn.Module)
    }
    assert exported == TABLE.keys() | EXCLUDED.keys()
    assert not TABLE.keys() & EXCLUDED.keys()
    # the classes of the instances, so that no row tests another layer than it says
    for name, rows in TABLE.items():
        for row in rows:
            assert type(row.make()) is getattr(nn, name)


# --- running a row --------------------------------------------------------------------------------

ROWS = [
    pytest.param(row, id=f"{name}-{n}")
    for name, rows in TABLE.items()
    for n, row in enumerate(rows)
]


def draw(tree: Any, make: Callable[[S], Any]) -> Any:
    """The arguments, with ``make`` applied to each one that is a series."""
    if isinstance(tree, S):
        return make(tree)
    return tuple(draw(item, make) for item in tree) if isinstance(tree, tuple) else tree


def tensors(outputs: Any) -> list[torch.Tensor]:
    """All tensors in the outputs of a layer."""
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    parts = outputs if isinstance(outputs, (tuple, list)) else []
    return [x for part in parts for x in tensors(part)]


def numbers(outputs: Any) -> list[torch.Tensor]:
    return [x for x in tensors(outputs) if x.is_floating_point()]


def made(row: Row, training: bool) -> nn.Module:
    """The layer in float64, with parameters and statistics that are not 0 or 1."""
    torch.manual_seed(0)
    module = row.make().double().train(training)
    running = [x for name, x in module.named_buffers() if "running" in name]
    with torch.no_grad():
        for x in [*module.parameters(), *running]:
            if not nn.parameter.is_lazy(x):
                x.add_(0.3 * torch.rand_like(x))
    return module


def run(row: Row, module: nn.Module, arguments: Sequence[Any]) -> Any:
    torch.manual_seed(1)
    return row.use(module, *arguments)


def normalised(x: torch.Tensor, axes: Any, eps: float) -> torch.Tensor:
    centred = x - x.mean(axes, keepdim=True)
    return centred / ((centred * centred).mean(axes, keepdim=True) + eps).sqrt()


def affine(x: torch.Tensor, weight: Any, bias: Any, *shape: int) -> torch.Tensor:
    x = x if weight is None else x * weight.reshape(shape or weight.shape)
    return x if bias is None else x + bias.reshape(shape or bias.shape)


def batch_norm(
    x: Any, mean: Any, var: Any, weight: Any, bias: Any, training: bool, momentum: Any, eps: float
) -> torch.Tensor:
    shape = (1, -1) + (1,) * (x.ndim - 2)
    if training:
        normal = normalised(x, (0, *range(2, x.ndim)), eps)
    else:
        normal = (x - mean.reshape(shape)) / (var.reshape(shape) + eps).sqrt()
    return affine(normal, weight, bias, *shape)


def instance_norm(
    x: Any, mean: Any, var: Any, weight: Any, bias: Any, use: bool, momentum: float, eps: float
) -> torch.Tensor:
    if not use:
        return batch_norm(x, mean, var, weight, bias, False, momentum, eps)
    shape = (1, -1) + (1,) * (x.ndim - 2)
    return affine(normalised(x, tuple(range(2, x.ndim)), eps), weight, bias, *shape)


def group_norm(x: Any, groups: int, weight: Any, bias: Any, eps: float) -> torch.Tensor:
    normal = normalised(x.reshape(len(x), groups, -1), -1, eps).reshape(x.shape)
    return affine(normal, weight, bias, 1, -1, *(1,) * (x.ndim - 2))


def layer_norm(x: Any, shape: Any, weight: Any, bias: Any, eps: float) -> torch.Tensor:
    return affine(normalised(x, tuple(range(-len(shape), 0)), eps), weight, bias)


FORMULAS = {
    "batch_norm": batch_norm,
    "instance_norm": instance_norm,
    "group_norm": group_norm,
    "layer_norm": layer_norm,
}


@contextlib.contextmanager
def differentiable() -> Iterator[None]:
    """Reverse mode over reverse mode is wrong at order 3 for torch's normalisations, and stops at
    order 1 for its fused attention."""
    with pytest.MonkeyPatch.context() as patch, sdpa_kernel(SDPBackend.MATH):
        for name, formula in FORMULAS.items():
            patch.setattr(F, name, formula)
        yield


def same(actual: Any, expected: Any, tolerance: float = 1e-9) -> None:
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def random_paths(row: Row, order: int, generator: torch.Generator) -> tuple[Any, list]:
    """The arguments of a row, series along random paths, and these paths."""
    paths: list[list[torch.Tensor]] = []

    def path(argument: S) -> TaylorTensor:
        u = [torch.rand(argument.shape, generator=generator, dtype=F64) for _ in range(order + 1)]
        value = argument.low + (argument.high - argument.low) * u[0]
        paths.append([x.requires_grad_() for x in (value, *(x - 0.5 for x in u[1:]))])
        return TaylorTensor.from_coeffs(paths[-1])

    return draw(row.arguments, path), paths


def instead(row: Row, arguments: Sequence[Any]) -> Any:
    """The arguments of a row with these in place of the series."""
    rest = iter(arguments)
    return draw(row.arguments, lambda _: next(rest))


def check(row: Row, training: bool, order: int) -> None:
    generator = torch.Generator().manual_seed(2)
    module, reference = made(row, training), made(row, training)
    arguments, paths = random_paths(row, order, generator)
    outputs = run(row, module, arguments)

    # what torch itself gives: value, integers, statistics, the state of the generator
    state = torch.get_rng_state()
    values = instead(row, [path[0].detach() for path in paths])
    plain = run(row, reference, values)
    assert torch.equal(torch.get_rng_state(), state)
    same([getattr(y, "value", y) for y in tensors(outputs)], tensors(plain), 1e-11)
    assert any(isinstance(y, TaylorTensor) for y in tensors(outputs))
    assert all(not isinstance(x, TaylorTensor) for x in module.state_dict().values())
    same(module.state_dict().values(), reference.state_dict().values(), 1e-12)

    # coefficients and gradients against reverse mode over reverse mode along t
    weights = [torch.rand(y.shape, generator=generator, dtype=F64) for y in numbers(outputs)]
    fresh = made(row, training)
    if any(nn.parameter.is_lazy(p) for p in fresh.parameters()):
        run(row, fresh, values)

    def at(xs: list[torch.Tensor]) -> list[torch.Tensor]:
        if row.formula is not None:
            return [row.formula(fresh, *instead(row, xs))]
        with differentiable():
            return numbers(run(row, fresh, instead(row, xs)))

    expected = along(at, paths, order, weights)
    got = [contracted(numbers(outputs), weights, k) for k in range(order + 1)]
    same(got, expected, row.tolerance)
    shares = torch.rand(order + 1, generator=generator, dtype=F64)
    options: dict[str, Any] = {"allow_unused": True, "materialize_grads": True}
    gradients = [
        torch.autograd.grad(
            sum(a * f for a, f in zip(shares, functional, strict=True)),
            [*owner.parameters(), *(x for path in paths for x in path)],
            **options,
        )
        for functional, owner in ((got, module), (expected, fresh))
    ]
    same(*gradients, row.tolerance)


MODES = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])


@MODES
@pytest.mark.parametrize("row", ROWS)
def test_layer(row: Row, training: bool) -> None:
    check(row, training, 3)


@pytest.mark.slow
@MODES
@pytest.mark.parametrize("row", ROWS)
def test_layer_at_order_5(row: Row, training: bool) -> None:
    check(dataclasses.replace(row, tolerance=10 * row.tolerance), training, 5)


@pytest.mark.parametrize("row", ROWS)
def test_layer_with_directions_and_variables(row: Row) -> None:
    """Every structure is checked against lines, gradients included."""
    generator = torch.Generator().manual_seed(3)
    module = made(row, True)
    points: list[tuple[torch.Tensor, torch.Tensor]] = []

    def point(argument: S) -> None:
        u = torch.rand(3, *argument.shape, generator=generator, dtype=F64)
        value = argument.low + (argument.high - argument.low) * u[0]
        points.append((value.requires_grad_(), u[1:] - 0.5))

    draw(row.arguments, point)

    def through(make: Callable[[torch.Tensor, torch.Tensor], Any]) -> list[torch.Tensor]:
        given = instead(row, [make(x, v) for x, v in points])
        return [y for y in numbers(run(row, module, given)) if isinstance(y, TaylorTensor)]

    mixed = torch.tensor([0.6, -1.3], dtype=F64)
    first, second, both = (
        through(lambda x, v, d=d: TaylorTensor(x, torch.tensordot(d, v, 1), order=2))
        for d in (torch.tensor([1.0, 0.0], dtype=F64), torch.tensor([0.0, 1.0], dtype=F64), mixed)
    )
    bundle = through(lambda x, v: TaylorTensor(x, directions=v, order=2))
    weighted = through(lambda x, v: TaylorTensor(x, directions=v, order=2, weights=mixed))
    a, b = tt.variables(torch.zeros((), dtype=F64), torch.zeros((), dtype=F64), order=2)
    variables = through(lambda x, v: x + a * v[0] + b * v[1])
    nested = through(lambda x, v: TaylorTensor(TaylorTensor(x, v[0], order=1), v[1], order=1))
    pairs: list[tuple[torch.Tensor, torch.Tensor]] = []
    for n in range(len(first)):
        lines = [torch.stack(c) for c in zip(first[n].coeffs, second[n].coeffs, strict=True)]
        pairs += zip(bundle[n].coeffs[1:], lines[1:], strict=True)
        summed = torch.tensordot(mixed, lines[2], 1)
        pairs += zip(weighted[n].coeffs, [lines[0][0], lines[1], summed], strict=True)
        c = variables[n].coeffs
        powers = torch.stack([mixed[0] ** 2, mixed[0] * mixed[1], mixed[1] ** 2])
        along_mixed = [c[0], torch.tensordot(mixed, c[1], 1), torch.tensordot(powers, c[2], 1)]
        pairs += zip(along_mixed, both[n].coeffs, strict=True)
        pairs.append((c[2][::2], lines[2]))
        # a linear layer leaves nothing of the inner series in the outer direction
        outer = nested[n].coeffs[1]
        cross = outer.coeffs[1] if isinstance(outer, TaylorTensor) else torch.zeros_like(outer)
        pairs.append((cross, c[2][1]))
    same(*zip(*pairs, strict=True))
    weights = [torch.rand(x.shape, generator=generator, dtype=F64) for x, _ in pairs]
    leaves = [*module.parameters(), *(x for x, _ in points)]
    same(
        *(
            torch.autograd.grad(
                sum((w * x).sum() for w, x in zip(weights, side, strict=True)),
                leaves,
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
            for side in zip(*pairs, strict=True)
        )
    )


# --- attention ------------------------------------------------------------------------------------


def series(*shape: int, order: int = 2, seed: int = 0, dtype: torch.dtype = F64) -> TaylorTensor:
    generator = torch.Generator().manual_seed(seed)
    c = [torch.rand(shape, generator=generator, dtype=F64) - 0.5 for _ in range(order + 1)]
    return TaylorTensor.from_coeffs([x.to(dtype) for x in c])


KEEP = torch.tensor([[1, 0, 1, 1, 0], [0, 1, 0, 0, 1], [1, 1, 1, 1, 1]], dtype=torch.bool)
BLIND = KEEP & torch.tensor([[True], [False], [True]])
sdpa = F.scaled_dot_product_attention


def seen_as(mask: torch.Tensor) -> torch.Tensor:
    return torch.zeros(mask.shape, dtype=F64).masked_fill(~mask, -torch.inf)


def heads_last(q: Any, k: Any, v: Any) -> Any:
    return sdpa(*(x.transpose(1, 2) for x in (q, k, v)), dropout_p=0.3)


Q, K, V = (2, 4, 3, 6), (2, 4, 5, 6), (2, 4, 5, 7)
ATTENTION: dict[str, tuple[Callable, tuple]] = {
    "plain": (sdpa, (Q, K, V)),
    "of one sequence": (sdpa, (Q[2:], K[2:], V[2:])),
    "of five axes": (sdpa, ((1, *Q), (1, *K), (1, *V))),
    "broadcast": (sdpa, (Q, (1, 1, 5, 6), (1, 1, 5, 7))),
    "bool mask": (partial(sdpa, attn_mask=KEEP), (Q, K, V)),
    "bool mask per sample": (partial(sdpa, attn_mask=KEEP.expand(2, 1, 3, 5)), (Q, K, V)),
    "float mask": (partial(sdpa, attn_mask=seen_as(KEEP) + 0.3), (Q, K, V)),
    "a series as mask": (lambda q, k, v, m: sdpa(q, k, v, attn_mask=m), (Q, K, V, (3, 5))),
    "a query that sees nothing, bool": (partial(sdpa, attn_mask=BLIND), (Q, K, V)),
    "a query that sees nothing, float": (partial(sdpa, attn_mask=seen_as(BLIND)), (Q, K, V)),
    "causal": (partial(sdpa, is_causal=True), (Q, K, V)),
    "causal, more queries than keys": (partial(sdpa, is_causal=True), ((2, 4, 7, 6), K, V)),
    "scale": (partial(sdpa, scale=0.3), (Q, K, V)),
    "negative scale": (partial(sdpa, scale=-0.3), (Q, K, V)),
    "groups of queries": (partial(sdpa, enable_gqa=True), (Q, (2, 2, 5, 6), (2, 2, 5, 6))),
    "groups of keys": (partial(sdpa, enable_gqa=True), (Q, (2, 2, 5, 6), (2, 1, 5, 6))),
    "dropout": (partial(sdpa, dropout_p=0.4), (Q, K, V)),
    "dropout and mask": (partial(sdpa, attn_mask=KEEP, dropout_p=0.4), (Q, K, V)),
    "dropout, heads last": (heads_last, ((2, 3, 4, 6), (2, 5, 4, 6), (2, 5, 4, 7))),
}


@pytest.mark.parametrize("name", ATTENTION)
def test_attention(name: str) -> None:
    f, shapes = ATTENTION[name]
    row = Row(nn.Identity, tuple(S(shape) for shape in shapes), use=lambda _, *xs: f(*xs))
    check(row, True, 3)


def test_attention_takes_one_mask() -> None:
    x = series(*Q)
    with pytest.raises(ValueError, match="not both"):
        sdpa(x, x, x, attn_mask=torch.ones(3, 3, dtype=torch.bool), is_causal=True)
    with pytest.raises(TypeError, match="attn_mask"):
        sdpa(x, x, x, attn_mask=torch.ones(3, 3, dtype=torch.int))


@pytest.mark.parametrize("which", [0, 1, 2])
def test_attention_to_constants(which: int) -> None:
    constants = [torch.rand(shape, dtype=F64) for shape in (Q, K, V)]
    row = Row(
        nn.Identity,
        (S((Q, K, V)[which]),),
        use=lambda _, x: sdpa(*constants[:which], x, *constants[which + 1 :]),
    )
    check(row, True, 3)


@pytest.mark.parametrize("backend", [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION])
def test_attention_whatever_kernel_torch_is_told_to_use(backend: SDPBackend) -> None:
    x, y, z = series(*Q), series(*K, seed=1), series(*K, seed=2)
    with sdpa_kernel(backend):
        result = sdpa(x, y, z)
        plain = sdpa(x.value, y.value, z.value)
    same([result.value], [plain])
    same(result.coeffs, sdpa(x, y, z).coeffs)


@pytest.mark.parametrize("bias", ["causal_lower_right", "causal_upper_left"])
def test_attention_with_a_causal_bias(bias: str) -> None:
    from torch.nn.attention import bias as biases

    mask = getattr(biases, bias)(3, 5)
    x, y, z = series(*Q), series(*K, seed=1), series(*K, seed=2)
    result = sdpa(x, y, z, attn_mask=mask)
    same([result.value], [sdpa(x.value, y.value, z.value, attn_mask=mask)])
    below = torch.ones(3, 5, dtype=torch.bool).tril(2 if bias == "causal_lower_right" else 0)
    same(result.coeffs, sdpa(x, y, z, attn_mask=below).coeffs)


# --- fused kernels of evaluation ------------------------------------------------------------------

CONTEXTS = pytest.mark.parametrize(
    "context", [torch.enable_grad, torch.no_grad, torch.inference_mode]
)


def encoder(**options: Any) -> nn.TransformerEncoder:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True, **options)
    return nn.TransformerEncoder(layer, 2).double()


@CONTEXTS
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm_first", [True, False])
def test_the_fast_path_of_an_encoder_is_not_taken(
    context: Callable, activation: str, norm_first: bool
) -> None:
    model, x = encoder(activation=activation, norm_first=norm_first), series(2, 3, 4)
    expected = model.train()(x).coeffs
    with context():
        y = model.eval()(x)
        plain = model(x.value)
    same([y.value], [plain])
    same(y.coeffs, expected)


@CONTEXTS
@pytest.mark.parametrize("lengths", [(3, 1), (1, 3), (2, 2)])
def test_a_padded_batch_in_an_encoder_that_would_pack_it(context: Callable, lengths: Any) -> None:
    # enable_nested_tensor is torch's default
    model, x = encoder(), series(2, 3, 4)
    padding = torch.arange(3) >= torch.tensor(lengths)[:, None]
    expected = model.train()(x, src_key_padding_mask=padding).coeffs
    with context():
        y = model.eval()(x, src_key_padding_mask=padding)
        plain = model(x.value, src_key_padding_mask=padding)
    same(y.coeffs, expected)
    # in the padding the packed batch has zeros, or is shorter
    longest = plain.shape[1]
    kept = ~padding[:, :longest]
    same([y.value[:, :longest][kept]], [plain[kept]])


@CONTEXTS
@pytest.mark.parametrize("need_weights", [True, False])
def test_the_fast_path_of_multihead_attention_is_not_taken(
    context: Callable, need_weights: bool
) -> None:
    torch.manual_seed(0)
    model, x = nn.MultiheadAttention(4, 2, batch_first=True).double(), series(2, 3, 4)
    call = {"need_weights": need_weights, "key_padding_mask": torch.tensor([[0, 0, 1]] * 2).bool()}
    expected = numbers(model.train()(x, x, x, **call))
    with context():
        result = numbers(model.eval()(x, x, x, **call))
        plain = numbers(model(x.value, x.value, x.value, **call))
    for y, e, p in zip(result, expected, plain, strict=True):
        same([y.value], [p])
        same(y.coeffs, e.coeffs)


# --- batch statistics and random masks ------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.1, 0.4, 1.0, None])
@pytest.mark.parametrize("kind", ["line", "directions", "variables", "nested"])
def test_running_statistics_move_once_by_the_value(momentum: float | None, kind: str) -> None:
    module, reference = (nn.BatchNorm1d(3, momentum=momentum).double() for _ in range(2))
    for step in range(1, 4):
        x0 = series(6, 3, seed=step).value
        x = {
            "line": lambda x0=x0: TaylorTensor(x0, order=3),
            "directions": lambda x0=x0: TaylorTensor(x0, directions=torch.ones(4, 6, 3).to(F64)),
            "variables": lambda x0=x0: tt.variables(x0, event_dims=1),
            "nested": lambda x0=x0: TaylorTensor(TaylorTensor(x0)),
        }[kind]()
        module(x)
        reference(x0)
        assert module.num_batches_tracked == step
        for mine, theirs in zip(module.buffers(), reference.buffers(), strict=True):
            assert type(mine) is torch.Tensor
            assert not mine.requires_grad
            torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-13)


def test_statistics_of_evaluation_and_without_tracking_stay() -> None:
    for module in (nn.BatchNorm1d(3).eval(), nn.BatchNorm1d(3, track_running_stats=False)):
        module.double()
        before = copy.deepcopy(module.state_dict())
        module(series(6, 3))
        same(module.state_dict().values(), before.values(), 0)


def test_update_bn_of_stochastic_weight_averaging() -> None:
    models = [nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double() for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    batches = [series(5, 3, seed=n) for n in range(3)]
    torch.optim.swa_utils.update_bn(batches, models[0])
    torch.optim.swa_utils.update_bn([x.value for x in batches], models[1])
    same(models[0].buffers(), models[1].buffers(), 1e-12)


LAYOUTS: dict[str, Callable] = {
    "contiguous": lambda x: x * 1.0,
    "transposed": lambda x: x.transpose(0, 2),
    "a part": lambda x: x[:, 1:],
    "expanded": lambda x: x[:1].expand(3, 4, 5),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "make", [nn.Dropout, nn.Dropout1d, nn.AlphaDropout, nn.FeatureAlphaDropout]
)
def test_one_mask_for_all_coefficients_and_the_one_that_torch_draws(
    make: Callable, layout: str
) -> None:
    """torch draws in the order of memory, so the mask depends on strides as well."""
    x = LAYOUTS[layout](series(3, 4, 5))
    torch.manual_seed(0)
    y = make(0.4)(x)
    torch.manual_seed(0)
    plain = make(0.4)(LAYOUTS[layout](series(3, 4, 5).value))
    same([y.value], [plain])
    factors = [c / b for c, b in zip(y.coeffs[1:], x.coeffs[1:], strict=True)]
    same([factors[0]], [factors[1]])
    kept = factors[0] != 0
    assert kept.any()
    assert not kept.all()
    assert factors[0][kept].round(decimals=9).unique().numel() == 1


@pytest.mark.parametrize("randomness", ["same", "different"])
def test_random_masks_under_vmap(randomness: str) -> None:
    def dropped(p: torch.Tensor) -> Any:
        return nn.Dropout(0.5)(TaylorTensor(p)).coeffs

    torch.manual_seed(0)
    c = torch.vmap(dropped, randomness=randomness)(torch.ones(4, 20))
    torch.manual_seed(0)
    plain = torch.vmap(nn.Dropout(0.5), randomness=randomness)(torch.ones(4, 20))
    same(c[:2], [plain, plain], 0)
    assert torch.equal(plain[0], plain[1]) == (randomness == "same")


def test_an_ensemble_by_vmap() -> None:
    models = [nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double() for _ in range(3)]
    parameters, buffers = torch.func.stack_module_state(models)
    model, x = copy.deepcopy(models[0]), series(5, 3)

    def one(p: Any, b: Any, x: Any) -> Any:
        return (torch.func.functional_call(model, (p, b), (x,)),)

    (y,) = torch.vmap(one, in_dims=(0, 0, None))(parameters, buffers, x)
    for k in range(3):
        same([y.coeffs[k]], [torch.stack([m(x).coeffs[k] for m in models])])


# --- checkpoints ----------------------------------------------------------------------------------


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.3), nn.Tanh(), nn.Linear(4, 2)
    ).double()


def gradients_of(net: nn.Module, forward: Callable, x: TaylorTensor) -> Any:
    """In the parameters, of the sum of the squares of all coefficients."""
    torch.manual_seed(1)
    total = sum((c**2).sum() for c in forward(x).coeffs)
    return torch.autograd.grad(total, list(net.parameters()))


matrix_products = partial(
    create_selective_checkpoint_contexts, [torch.ops.aten.mm.default, torch.ops.aten.addmm.default]
)
CHECKPOINTS: dict[str, Callable] = {
    "whole": lambda net, x: checkpoint(net, x, use_reentrant=False),
    "by keyword": lambda net, x: checkpoint(lambda a: net(a), a=x, use_reentrant=False),
    "selective": lambda net, x: checkpoint(net, x, use_reentrant=False, context_fn=matrix_products),
    "sequential": lambda net, x: checkpoint_sequential(net, 3, x, use_reentrant=False),
    "without early stop": lambda net, x: without_early_stop(net, x),
}


def without_early_stop(net: nn.Module, x: Any) -> Any:
    with set_checkpoint_early_stop(False):
        return checkpoint(net, x, use_reentrant=False)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_recomputes_the_series(name: str) -> None:
    net, x = network(), series(5, 3, order=3)
    expected = gradients_of(net, net, x)
    same(gradients_of(net, partial(CHECKPOINTS[name], net), x), expected, 1e-12)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_a_series_made_within_a_checkpoint(use_reentrant: bool) -> None:
    net = network()
    x0 = series(5, 3).value.requires_grad_()

    def loss(x0: torch.Tensor) -> Any:
        return sum((c**2).sum() for c in net(TaylorTensor(x0)).coeffs)

    def gradients(f: Callable) -> list[torch.Tensor]:
        torch.manual_seed(1)
        net.zero_grad()
        x0.grad = None
        f(x0).backward()
        return [x.grad.clone() for x in (x0, *net.parameters())]

    again = partial(checkpoint, loss, use_reentrant=use_reentrant)
    same(gradients(again), gradients(loss), 1e-12)


@pytest.mark.parametrize("sequential", [True, False])
def test_a_reentrant_checkpoint_is_refused_where_gradients_are_wanted(sequential: bool) -> None:
    net, x = network().eval(), series(5, 3)

    def through() -> Any:
        if sequential:
            return checkpoint_sequential(net, 2, x, use_reentrant=True)
        return checkpoint(net, x, use_reentrant=True)

    with pytest.raises(tt.UnsupportedFunction, match="use_reentrant=False"):
        _ = through().coeffs
    with torch.no_grad():
        same(through().coeffs, net(x).coeffs)


def test_a_checkpoint_within_a_checkpoint_is_refused() -> None:
    net, x = network().eval(), series(5, 3)

    def inner(a: Any) -> Any:
        return net[2:](checkpoint(net[:2], a, use_reentrant=False))

    with pytest.raises(tt.UnsupportedFunction, match="checkpoint inside another"):
        gradients_of(net, lambda x: checkpoint(inner, x, use_reentrant=False), x)


def test_saved_tensors_on_the_cpu() -> None:
    net, x = network(), series(5, 3)
    expected = gradients_of(net, net, x)
    with torch.autograd.graph.save_on_cpu():
        same(gradients_of(net, net, x), expected, 0)


# --- hooks ----------------------------------------------------------------------------------------


FORWARD_HOOKS: dict[str, Callable] = {
    "of a module": lambda m, note: m[3].register_forward_hook(lambda _, args, out: note(out)),
    "before a module": lambda m, note: m[3].register_forward_pre_hook(lambda _, args: note(args)),
    "with keywords": lambda m, note: m[3].register_forward_hook(
        lambda _, args, kwargs, out: note(out), with_kwargs=True
    ),
    "of all modules": lambda m, note: nn.modules.module.register_module_forward_hook(
        lambda module, args, out: note(out) if module is m[3] else None
    ),
    "before all modules": lambda m, note: nn.modules.module.register_module_forward_pre_hook(
        lambda module, args: note(args) if module is m[3] else None
    ),
}


@pytest.mark.parametrize("name", FORWARD_HOOKS)
@pytest.mark.parametrize("changes", [True, False])
def test_forward_hooks_see_the_series_and_may_change_it(name: str, changes: bool) -> None:
    net, x = network().eval(), series(5, 3)
    before, after = net[:3](x), net[:4](x)
    seen = []

    def note(y: Any) -> Any:
        single = y[0] if isinstance(y, tuple) else y
        seen.append(single)
        if changes:
            return (single * 2,) if isinstance(y, tuple) else single * 2
        return None

    handle = FORWARD_HOOKS[name](net, note)
    try:
        y = net(x)
    finally:
        handle.remove()
    ahead = "before" in name
    same(seen[0].coeffs, (before if ahead else after).coeffs)
    factor = 2 if changes else 1
    expected = net[3:](before * factor) if ahead else net[4](after * factor)
    same(y.coeffs, expected.coeffs)


BACKWARD_HOOKS: dict[str, Callable] = {
    "of a module": lambda m: m[3].register_full_backward_hook(lambda *_: None),
    "of the last module": lambda m: m[4].register_full_backward_hook(lambda *_: None),
    "of the model": lambda m: m.register_full_backward_hook(lambda *_: None),
    "before a module": lambda m: m[3].register_full_backward_pre_hook(lambda *_: None),
    "before the last module": lambda m: m[4].register_full_backward_pre_hook(lambda *_: None),
    "of all modules": lambda m: nn.modules.module.register_module_full_backward_hook(
        lambda *_: None
    ),
}


@pytest.mark.parametrize("name", BACKWARD_HOOKS)
def test_backward_hooks_of_modules_are_refused_where_gradients_are_wanted(name: str) -> None:
    net, x = network().eval(), series(5, 3)
    expected = net(x).coeffs
    handle = BACKWARD_HOOKS[name](net)
    try:
        with pytest.raises(tt.UnsupportedFunction, match=r"backward hook.*hooks on parameters"):
            _ = net(x).coeffs
        with torch.no_grad():
            same(net(x).coeffs, expected)
    finally:
        handle.remove()


def test_hooks_of_parameters_see_the_gradients_of_all_coefficients() -> None:
    net, x = network().eval(), series(5, 3)
    expected = gradients_of(net, net, x)
    seen: dict[str, torch.Tensor] = {}
    net[0].weight.register_hook(lambda g: seen.update(before=g))
    net[0].weight.register_post_accumulate_grad_hook(lambda p: seen.update(after=p.grad))
    sum((c**2).sum() for c in net(x).coeffs).backward()
    same(seen.values(), [expected[0]] * 2)


# --- parametrizations -----------------------------------------------------------------------------

WRAPPERS: dict[str, Callable] = {
    "weight norm": parametrizations.weight_norm,
    "weight norm of the whole": partial(parametrizations.weight_norm, dim=None),
    "spectral norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "orthogonal, cayley": partial(parametrizations.orthogonal, orthogonal_map="cayley"),
    "orthogonal, householder": partial(parametrizations.orthogonal, orthogonal_map="householder"),
    "old weight norm": nn.utils.weight_norm,
    "old spectral norm": nn.utils.spectral_norm,
    "pruned": partial(prune.l1_unstructured, name="weight", amount=0.5),
}


def test_every_parametrization_is_in_the_table() -> None:
    exported = {
        member
        for member in vars(parametrizations).values()
        if inspect.isclass(member) and issubclass(member, nn.Module) and member is not nn.Module
    }
    used = set()
    for wrapper in WRAPPERS.values():
        layer = wrapper(nn.Linear(3, 4))
        if parametrize.is_parametrized(layer):
            used |= {type(p) for p in layer.parametrizations.weight}
    assert used == exported


@MODES
@pytest.mark.parametrize("name", WRAPPERS)
def test_a_layer_with_a_parametrized_weight(name: str, training: bool) -> None:
    """Power iterations move on, in training, as torch's."""

    def make() -> nn.Module:
        return nn.Sequential(WRAPPERS[name](nn.Linear(3, 4)), nn.Tanh(), nn.Linear(4, 2))

    check(Row(make, (S((5, 3)),)), training, 2)


class Scaled(nn.Module):
    def __init__(self, factor: torch.Tensor) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight * self.factor


@pytest.mark.parametrize("cached", [True, False])
def test_a_weight_parametrized_by_a_series(cached: bool) -> None:
    layer, factor, x = nn.Linear(3, 2).double(), series(2, 1), series(5, 3).value
    weight, bias = layer.weight, layer.bias
    parametrize.register_parametrization(layer, "weight", Scaled(factor))
    with parametrize.cached() if cached else contextlib.nullcontext():
        y = layer(x)
        assert isinstance(layer.weight, TaylorTensor)
    same(y.coeffs, F.linear(x, weight * factor, bias).coeffs)
    assert type(layer.parametrizations.weight.original) is nn.Parameter


SERIES_OF_PARAMETERS: dict[str, tuple[Callable, Callable]] = {
    "linear": (lambda: nn.Linear(3, 2), lambda p, x: x @ p["weight"].mT + p["bias"]),
    "weight norm": (
        lambda: parametrizations.weight_norm(nn.Linear(3, 2)),
        lambda p, x: (
            x
            @ (
                p["parametrizations.weight.original0"]
                * p["parametrizations.weight.original1"]
                / p["parametrizations.weight.original1"].square().sum(1, keepdim=True).sqrt()
            ).mT
            + p["bias"]
        ),
    ),
    "batch norm": (
        lambda: nn.BatchNorm1d(3),
        lambda p, x: normalised(x, 0, 1e-5) * p["weight"] + p["bias"],
    ),
    "convolution": (
        lambda: nn.Conv1d(1, 2, 3),
        lambda p, x: (p["weight"].reshape(2, 3) @ x.reshape(5, 3, 1)) + p["bias"][:, None],
    ),
}


@pytest.mark.parametrize("name", SERIES_OF_PARAMETERS)
def test_functional_call_with_a_series_for_every_parameter(name: str) -> None:
    make, formula = SERIES_OF_PARAMETERS[name]
    module, x = make().double(), series(5, 3).value
    x = x[:, None] if name == "convolution" else x
    names = list(dict(module.named_parameters()))
    shapes = [p.shape for p in module.parameters()]

    def called(*ps: Any) -> Any:
        return torch.func.functional_call(module, dict(zip(names, ps, strict=True)), (x,))

    row = Row(
        nn.Identity,
        tuple(S(tuple(shape), 0.2, 0.9) for shape in shapes),
        use=lambda _, *ps: called(*ps),
        formula=lambda _, *ps: formula(dict(zip(names, ps, strict=True)), x),
    )
    check(row, True, 3)
    assert all(type(p) is nn.Parameter for p in module.parameters())


def test_the_power_iteration_of_a_weight_that_is_a_series_is_refused() -> None:
    # torch writes its vectors in place, without gradient: they would be constants
    module = parametrizations.spectral_norm(nn.Linear(3, 2)).double()
    weight = {"parametrizations.weight.original": series(2, 3)}
    with pytest.raises(tt.UnsupportedFunction, match="normalize"):
        torch.func.functional_call(module.train(), weight, (torch.ones(5, 3, dtype=F64),))
    y = torch.func.functional_call(module.eval(), weight, (torch.ones(5, 3, dtype=F64),))
    assert isinstance(y, TaylorTensor)


# --- precision ------------------------------------------------------------------------------------

SETTINGS: dict[str, tuple[torch.dtype, torch.dtype, torch.dtype | None]] = {
    # the inputs, the parameters, autocast
    "autocast": (torch.float32, torch.float32, torch.bfloat16),
    "autocast of bfloat16": (torch.bfloat16, torch.float32, torch.bfloat16),
    "bfloat16": (torch.bfloat16, torch.bfloat16, None),
    "half": (torch.float16, torch.float16, None),
}


def cast(tree: Any, dtype: torch.dtype) -> Any:
    if isinstance(tree, torch.Tensor):
        return tree.to(dtype) if tree.is_floating_point() else tree
    return tuple(cast(item, dtype) for item in tree) if isinstance(tree, tuple) else tree


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", TABLE)
def test_low_precision(name: str, setting: str) -> None:
    """The dtype that torch's value has, for all coefficients, and as precise as it."""
    inputs, parameters, reduced = SETTINGS[setting]
    context = torch.autocast("cpu", reduced) if reduced else contextlib.nullcontext()
    for row in TABLE[name]:
        training = "Norm" in name
        generator = torch.Generator().manual_seed(2)
        _, paths = random_paths(row, 2, generator)
        paths = [[c.detach().to(inputs) for c in path] for path in paths]
        values = cast(instead(row, [path[0] for path in paths]), inputs)
        arguments = cast(instead(row, [TaylorTensor.from_coeffs(p) for p in paths]), inputs)
        exact = instead(row, [TaylorTensor.from_coeffs([c.double() for c in p]) for p in paths])
        with context:
            try:
                plain = numbers(run(row, made(row, training).to(parameters), values))
            except (RuntimeError, NotImplementedError):
                # torch has no such kernel
                continue
            result = numbers(run(row, made(row, training).to(parameters), arguments))
        expected = numbers(run(row, made(row, training), exact))
        for y, p, e in zip(result, plain, expected, strict=True):
            # torch hands an LSTM to another library on the CPU, which returns bfloat16 throughout
            if (name, setting) != ("LSTM", "autocast"):
                assert y.dtype == p.dtype
            assert {c.dtype for c in y.coeffs} == {y.dtype}
            eps = torch.finfo(torch.bfloat16 if inputs != torch.float16 else inputs).eps
            scale = sum(c.abs().max() for c in e.coeffs) + 1e-3
            torch_error = (p.double() - e.value).abs().max() / scale
            for c, d in zip(y.coeffs, e.coeffs, strict=True):
                assert (c.double() - d).abs().max() / scale <= 3 * torch_error + 8 * eps


@pytest.mark.parametrize("scale", [1e-3, 1.0, 300.0])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["LayerNorm", "RMSNorm", "GroupNorm", "BatchNorm1d"])
def test_normalisation_of_numbers_whose_squares_do_not_fit(
    name: str, dtype: torch.dtype, scale: float
) -> None:
    module = nn.GroupNorm(2, 8) if name == "GroupNorm" else getattr(nn, name)(8)
    x = series(6, 8, dtype=dtype) * scale
    y = module.to(dtype)(x)
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(y.value, module(x.value), rtol=2 * eps, atol=2 * eps)
    if name == "RMSNorm":
        # the default is that of the precision in which torch computes
        module.eps = torch.finfo(torch.float32).eps
    expected = module.double()(TaylorTensor.from_coeffs([c.double() for c in x.coeffs]))
    for c, e in zip(y.coeffs, expected.coeffs, strict=True):
        assert (c.double() - e).abs().max() <= 4 * eps * (1 + e.abs().max())


LINEAR_ALGEBRA: dict[str, Callable] = {
    "inv": torch.linalg.inv,
    "solve": lambda a: torch.linalg.solve(a, a.mT),
    "lstsq": lambda a: torch.linalg.lstsq(a, a.mT)[0],
    "cholesky": torch.linalg.cholesky,
    "det": torch.linalg.det,
    "slogdet": lambda a: torch.linalg.slogdet(a)[1],
    "eigvalsh": torch.linalg.eigvalsh,
    "eigh": lambda a: torch.linalg.eigh(a)[1].abs(),
    "svdvals": torch.linalg.svdvals,
    "qr": lambda a: torch.linalg.qr(a)[1],
    "lu_factor": lambda a: torch.linalg.lu_factor(a)[0],
    "matrix_exp": torch.matrix_exp,
    "cond": torch.linalg.cond,
}


@pytest.mark.parametrize("name", LINEAR_ALGEBRA)
def test_equations_are_not_solved_in_the_precision_of_autocast(name: str) -> None:
    x = series(3, 3, order=3, dtype=torch.float32)
    a = x + x.mT + torch.diag(torch.tensor([3.0, 5.0, 8.0]))
    expected = LINEAR_ALGEBRA[name](a)
    with torch.autocast("cpu", torch.bfloat16):
        y = LINEAR_ALGEBRA[name](a)
    same(y.coeffs, expected.coeffs, 1e-5)


def test_a_training_step_under_autocast() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 16), nn.LayerNorm(16), nn.SiLU(), nn.Linear(16, 1))
    x, target = series(8, 3, dtype=torch.float32), torch.ones(8, 1)

    def gradients() -> Any:
        y = net(x)
        loss = F.mse_loss(y, target)
        assert loss.dtype == torch.float32
        total = sum(c.sum() for c in loss.coeffs)
        return torch.autograd.grad(total, list(net.parameters()))

    expected = gradients()
    with torch.autocast("cpu", torch.bfloat16):
        got = gradients()
    for g, e in zip(got, expected, strict=True):
        assert (g - e).norm() <= 0.05 * e.norm() + 1e-2


# --- memory formats -------------------------------------------------------------------------------

IMAGES: dict[str, Callable[[], nn.Module]] = {
    "convolution": lambda: nn.Conv2d(3, 4, 3),
    "transposed convolution": lambda: nn.ConvTranspose2d(3, 4, 3),
    "batch norm": lambda: nn.BatchNorm2d(3),
    "group norm": lambda: nn.GroupNorm(3, 3),
    "activation": nn.SiLU,
    "maximum": lambda: nn.MaxPool2d(2),
    "average": lambda: nn.AvgPool2d(2),
    "adaptive maximum": lambda: nn.AdaptiveMaxPool2d(2),
    "upsampling": lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
    "padding": lambda: nn.ZeroPad2d(1),
    "dropout": lambda: nn.Dropout2d(0.4),
    "network": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 2, 1)
    ),
}


@pytest.mark.parametrize("name", IMAGES)
def test_channels_last_goes_in_and_stays_in_the_value(name: str) -> None:
    last = torch.channels_last
    module = IMAGES[name]().double().to(memory_format=last)
    x = series(2, 3, 6, 6).contiguous(memory_format=last)
    assert x.value.is_contiguous(memory_format=last)
    torch.manual_seed(0)
    y = copy.deepcopy(module)(x)
    torch.manual_seed(0)
    plain = copy.deepcopy(module)(x.value)
    same([y.value], [plain])
    assert y.stride() == y.value.stride() == plain.stride()
    torch.manual_seed(0)
    same(y.coeffs, module.to(memory_format=torch.contiguous_format)(series(2, 3, 6, 6)).coeffs)


# --- sequences ------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("side", ["left", "right"])
def test_sequences_of_different_lengths(batch_first: bool, side: str) -> None:
    parts = [series(3, 2), series(1, 2, seed=1), series(2, 2, seed=2).value]
    padded = nn.utils.rnn.pad_sequence(parts, batch_first, 0.5, side)
    for k in range(3):
        blocks = [p.coeffs[k] if isinstance(p, TaylorTensor) else p * (k == 0) for p in parts]
        expected = nn.utils.rnn.pad_sequence(blocks, batch_first, 0.5 * (k == 0), side)
        same([padded.coeffs[k]], [expected], 0)


def test_a_packed_sequence_is_unpacked() -> None:
    parts = [series(3, 2), series(1, 2, seed=1), series(2, 2, seed=2)]
    pack = nn.utils.rnn.pack_sequence(parts, enforce_sorted=False)
    for part, again in zip(parts, nn.utils.rnn.unpack_sequence(pack), strict=True):
        same(again.coeffs, part.coeffs, 0)
    assert isinstance(pack.to(torch.float32).data, TaylorTensor)


# --- custom functions -----------------------------------------------------------------------------


def square() -> Any:
    """A new ``autograd.Function``, since a rule stays with its class."""

    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
            return 2 * ctx.saved_tensors[0] * g

    return Square


class Custom(nn.Module):
    def __init__(self, function: Any, then: Callable) -> None:
        super().__init__()
        self.linear, self.function, self.then = nn.Linear(3, 2), function, then

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.then(self.function.apply(self.linear(x)))


@pytest.mark.parametrize("then", [torch.sin, lambda y: y], ids=["used", "returned"])
def test_a_custom_function_in_a_layer_needs_a_rule(then: Callable) -> None:
    function = square()
    module = Custom(function, then).double()
    x = series(5, 3)
    with pytest.raises(tt.UnsupportedFunction, match=r"Square.*register_rule"):
        _ = module(x).coeffs
    with torch.no_grad():
        same(module(x).coeffs, then(module.linear(x) ** 2).coeffs)
    tt.register_rule(function, composite=lambda x: x * x)
    check(Row(lambda: Custom(function, then), (S((5, 3)),)), True, 2)


def test_a_layer_that_is_an_autograd_function() -> None:
    """With a rule it works; torch's loop over the channels is exact for two of them."""
    from torch.nn.modules._functions import CrossMapLRN2d as Function

    module, x = nn.CrossMapLRN2d(3, 0.5, 0.6, 2.0).double(), series(2, 2, 2, 3)
    with pytest.raises(tt.UnsupportedFunction):
        module(x)

    def body(input: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1) -> Any:
        return input * (k + alpha / size * (input * input).sum(1, keepdim=True)) ** -beta

    tt.register_rule(Function, composite=body)
    try:
        y = module(x)
        same([y.value], [module(x.value)])
        same(y.coeffs, body(x, 3, 0.5, 0.6, 2.0).coeffs)
    finally:
        del Function.apply


# --- compiled -------------------------------------------------------------------------------------


def check_compiled(row: Row, training: bool) -> None:
    _, paths = random_paths(row, 2, torch.Generator().manual_seed(2))
    paths = [[c.detach() for c in path] for path in paths]

    def through(module: nn.Module, paths: Any) -> Any:
        given = instead(row, [TaylorTensor.from_coeffs(p) for p in paths])
        outputs = tensors(row.use(module, *given))
        return [c for y in outputs for c in (y.coeffs if isinstance(y, TaylorTensor) else (y,))]

    module = made(row, training)
    torch._dynamo.reset()
    torch.manual_seed(1)
    got = torch.compile(partial(through, module), backend="eager", fullgraph=True)(paths)
    other = made(row, training)
    torch.manual_seed(1)
    same(got, through(other, paths))
    same(module.buffers(), other.buffers())


# calls that Dynamo hands to a rule in another form than eager torch does
HANDED_OTHERWISE = {
    "AdaptiveAvgPool2d": 1,
    "AdaptiveMaxPool2d": 1,
    "FractionalMaxPool2d": 1,
    "MaxPool2d": 1,
    "MultiheadAttention": 7,
    "AlphaDropout": 0,
    "Dropout": 3,
    "ELU": 1,
    "KLDivLoss": 1,
}


@pytest.mark.parametrize("name", HANDED_OTHERWISE)
def test_compiled(name: str) -> None:
    check_compiled(TABLE[name][HANDED_OTHERWISE[name]], True)


# Dynamo does not trace recurrent networks and what branches on data, compiled plain as little
UNTRACED = {"AdaptiveLogSoftmaxWithLoss", "CTCLoss", "GRU", "GaussianNLLLoss", "LSTM", "RNN"}
COMPILED = [name for name in TABLE if name not in UNTRACED and "Lazy" not in name]


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILED)
def test_every_layer_compiled(name: str) -> None:
    check_compiled(TABLE[name][0], True)


# --- the module afterwards ------------------------------------------------------------------------


def test_a_model_is_copied_and_saved_as_before() -> None:
    net = network()
    net(series(5, 3))
    net.eval()(series(5, 3))
    state = net.state_dict()
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    for again in (
        copy.deepcopy(net).state_dict(),
        pickle.loads(pickle.dumps(net)).state_dict(),
        torch.load(file),
    ):
        assert {type(x) for x in again.values()} == {torch.Tensor}
        same(again.values(), state.values(), 0)
    same(copy.deepcopy(net)(series(5, 3)).coeffs, net(series(5, 3)).coeffs, 0)


@pytest.mark.parametrize("use_buffers", [True, False])
def test_averaged_models(use_buffers: bool) -> None:
    net = network().eval()
    average = torch.optim.swa_utils.AveragedModel(
        net,
        multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9),
        use_buffers=use_buffers,
    )
    for _ in range(2):
        same(average(series(5, 3)).coeffs, net(series(5, 3)).coeffs)
        average.update_parameters(net)


def test_a_fused_convolution_and_batch_norm() -> None:
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(2, 3, 3).double().eval(), nn.BatchNorm2d(3).double().eval()
    norm.running_mean.uniform_()
    norm.running_var.uniform_(0.5, 2)
    x = series(2, 2, 4, 4)
    fused = nn.utils.fusion.fuse_conv_bn_eval(conv, norm)
    same(fused(x).coeffs, norm(conv(x)).coeffs)


def test_synchronised_batch_norm_without_a_process_group() -> None:
    net, x = network(), series(5, 3)
    other = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(net))
    assert isinstance(other[1], nn.SyncBatchNorm)
    torch.manual_seed(0)
    y = other(x)
    torch.manual_seed(0)
    same(y.coeffs, net(x).coeffs)


def test_what_is_clamped_without_gradient_does_not_move() -> None:
    """The variance below ``eps`` in this loss: the derivative is that of what was computed."""
    path = [torch.tensor([0.1, 0.4], dtype=F64), torch.tensor([1.0, 1.0], dtype=F64)]
    loss = partial(
        nn.GaussianNLLLoss(eps=0.2, reduction="none"), torch.zeros(2).to(F64), torch.ones(2).to(F64)
    )
    y = loss(TaylorTensor(*path))
    h = 1e-5
    slope = (loss(path[0] + h * path[1]) - loss(path[0] - h * path[1])) / (2 * h)
    torch.testing.assert_close(y.coeffs[1], slope, rtol=1e-8, atol=1e-9)
    assert y.coeffs[1][0] == 0


# --- autocast, function by function ---------------------------------------------------------------


def drawn_as(tree: Any, dtype: torch.dtype, generator: torch.Generator, taylor: bool) -> Any:
    """The arguments of a sample call in another dtype, plain or as series."""
    if isinstance(tree, samples.T):
        x = tree.draw(generator).to(dtype)
        return TaylorTensor(x) if taylor else x
    if isinstance(tree, torch.Tensor) and tree.is_floating_point():
        return tree.to(dtype)
    if tree is F64:
        return dtype
    if type(tree) in (list, tuple):
        return type(tree)(drawn_as(item, dtype, generator, taylor) for item in tree)
    if isinstance(tree, dict):
        return {name: drawn_as(item, dtype, generator, taylor) for name, item in tree.items()}
    return tree


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_function_has_under_autocast_the_dtype_that_torch_gives_it(
    dtype: torch.dtype,
) -> None:
    wrong = set()
    # torch hands an LSTM to another library on the CPU, which returns bfloat16 throughout
    for rule in (rule for rule in registry.ROWS if rule.name != "lstm"):
        for sample in rule.samples:
            results = []
            for taylor in (False, True):
                given = drawn_as(
                    (sample.args, sample.kwargs), dtype, torch.Generator().manual_seed(0), taylor
                )
                with torch.autocast("cpu", torch.bfloat16):
                    try:
                        results.append(rule.functions[0](*given[0], **given[1]))
                    except Exception:
                        if taylor:
                            wrong.add(f"{rule.name} fails")
                        break
            if len(results) == 2:
                dtypes = [[x.dtype for x in tensors(result)] for result in results]
                if dtypes[0] != dtypes[1]:
                    wrong.add(f"{rule.name}: {dtypes[0]}, not {dtypes[1]}")
    assert wrong == set()


def test_what_autocast_casts_on_a_gpu_is_in_a_table() -> None:
    by_torch = {
        name.removeprefix("aten::").split(".")[0]
        for name in torch._C._dispatch_get_all_op_names()
        if name.startswith("aten::")
        and torch._C._dispatch_has_kernel_for_dispatch_key(name, "AutocastCUDA")
    }
    tables = (autocast.SINGLE["cuda"], autocast.REDUCED["cuda"])
    listed = {short(name) for table in tables for name in table.split()}
    composites = {
        short(name)
        for rule in registry.ROWS
        if rule.kind in {"composite", "equation"}
        for name in rule.name.split()
    }
    # what their rules call is cast in the same way, or torch only promotes the arguments
    others = """
        _convolution addcdiv addcmul atan2 binary_cross_entropy conv_tbc convolution frobenius_norm
        grid_sampler index_put nuclear_norm stack tensordot vdot
    """
    assert composites & by_torch <= listed | set(others.split())
    # made of functions that are cast
    assert listed - by_torch == {"nll_loss_nd"}


def short(name: str) -> str:
    for prefix in ("torch.", "_C._nn.", "functional."):
        name = name.removeprefix(prefix)
    return name.replace(".", "_")
