"""Operators by their own names, exported programs, and views by place in memory."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import taylortorch as tt
from taylortorch import TaylorTensor, UnsupportedFunction
from taylortorch.engine.registry import OPERATORS, ROWS, name_of
from taylortorch.engine.samples import Sample
from taylortorch.engine.writing import overlaps
from taylortorch.rules.aten import REDUCTION_AT
from taylortorch.testing.samples import invoke
from tests.calls import draw

F64 = torch.float64
RANDOM = ("like", "bernoulli", "multinomial", "poisson", "binomial", "rrelu", "empty")


def path(*shape: int, order: int = 3, seed: int = 0) -> TaylorTensor:
    generator = torch.Generator().manual_seed(seed)
    return TaylorTensor.from_coeffs(
        [torch.rand(shape, generator=generator, dtype=F64) + 0.2 for _ in range(order + 1)]
    )


def same(a: Any, b: Any) -> None:
    if isinstance(a, (tuple, list)):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            same(one, other)
    elif isinstance(b, TaylorTensor):
        assert isinstance(a, TaylorTensor)
        for one, other in zip(a.coeffs, b.coeffs, strict=True):
            torch.testing.assert_close(one, other)
    else:
        torch.testing.assert_close(a, b)


# --- operators ------------------------------------------------------------------------------------


def behind_operators() -> list[Any]:
    """Each function that an operator of the same name stands behind, with a sample it takes."""
    found = []
    for rule in ROWS:
        for function in rule.functions:
            packet = getattr(torch.ops.aten, getattr(function, "__name__", ""), None)
            own = not isinstance(function, (types.FunctionType, torch._ops.OpOverloadPacket))
            if packet is None or not own or any(part in rule.name for part in RANDOM):
                continue
            if OPERATORS[function.__name__] is not function:
                continue
            for n, sample in enumerate(rule.samples):
                try:
                    shapes = [
                        [y.shape for y in invoke(form, sample, [p[0] for p in draw(sample, 0)])]
                        for form in (function, packet)
                    ]
                except (RuntimeError, TypeError):
                    # functions take forms that their operators do not: an axis for a list of axes
                    continue
                if shapes[0] != shapes[1]:
                    # read otherwise, see below
                    continue
                found.append(pytest.param(function, packet, sample, id=f"{name_of(function)}-{n}"))
                break
    return found


CASES = behind_operators()


def test_most_operators_are_reached() -> None:
    assert len(CASES) > 350


@pytest.mark.parametrize(("function", "packet", "sample"), CASES)
def test_an_operator_is_the_function_in_front_of_it(
    function: Callable, packet: Any, sample: Sample
) -> None:
    paths = draw(sample, 2)
    series = invoke(packet, sample, [TaylorTensor.from_coeffs(p) for p in paths])
    plain = invoke(packet, sample, [p[0].clone() for p in paths])
    expected = invoke(function, sample, [TaylorTensor.from_coeffs(p) for p in paths])
    same(series, expected)
    assert len(series) == len(plain)
    for got, value in zip(series, plain, strict=True):
        c0 = got.value if isinstance(got, TaylorTensor) else got
        torch.testing.assert_close(c0, value)


def test_overloads_and_argument_names() -> None:
    x = path(2, 3)
    aten = torch.ops.aten
    same(aten.add.Tensor(x, x, alpha=2), torch.add(x, x, alpha=2))
    same(aten.sum.dim_IntList(self=x, dim=[0]), x.sum(0))
    same(aten.where.self(x.value > 0.7, self=x, other=2 * x), torch.where(x.value > 0.7, x, 2 * x))
    same(aten.view.default(x, [3, 2]), x.reshape(3, 2))
    same(aten.sym_size.int(x, 1), 3)
    y = path(2, 3)
    assert aten.mul_.Tensor(y, 2) is y
    same(y, 2 * x)


@pytest.mark.parametrize("name", ["var", "std", "var_mean", "std_mean"])
@pytest.mark.parametrize("argument", [0, 1, [1], True, None])
def test_a_number_after_the_input_of_var_is_no_axis(name: str, argument: Any) -> None:
    x, packet = path(3, 4), getattr(torch.ops.aten, name)
    single = name in ("var", "std")
    given = () if argument is None else (argument,)
    result, plain = packet(x, *given), packet(x.value, *given)
    torch.testing.assert_close(
        result.value if single else result[0].value, plain if single else plain[0]
    )
    same(packet.dim(x, 1), getattr(torch, name)(x, 1))


@pytest.mark.parametrize("name", sorted(REDUCTION_AT))
def test_the_default_of_a_loss_is_its_mean(name: str) -> None:
    packet = getattr(torch.ops.aten, name)
    x = path(3, 4) / 2
    target = x.value.detach() / 2
    if "nll" in name or "entropy_loss" in name or "multi" in name:
        target = torch.tensor([1, 0, 3])
    if "multilabel" in name:
        target = torch.tensor([[1, 0, -1, 0]] * 3)
    if name == "nll_loss2d":
        x, target = path(2, 3, 4, 4), torch.ones(2, 4, 4, dtype=torch.long)
    result, plain = packet(x, target), packet(x.value, target)
    assert plain.shape == ()
    torch.testing.assert_close(result.value, plain)
    same(packet(x, target, reduction=2), packet.default(x, target, reduction=2))


def test_a_refused_operator_says_why() -> None:
    with pytest.raises(UnsupportedFunction, match=r"torch\.ops\.aten\.linalg_matrix_rank.* a rank"):
        torch.ops.aten.linalg_matrix_rank(path(3, 3))
    with pytest.raises(UnsupportedFunction, match=r"torch\.ops\.aten\.convolution_backward"):
        torch.ops.aten.convolution_backward(
            path(1, 1, 3),
            path(1, 1, 3),
            path(1, 1, 1),
            None,
            [1],
            [0],
            [1],
            False,
            [0],
            1,
            [True] * 3,
        )


@pytest.mark.parametrize("onesided", [True, False])
def test_complex_transforms(onesided: bool) -> None:
    x = path(3, 6)
    aten = torch.ops.aten
    spectrum = torch.fft.fft(x) if not onesided else torch.fft.rfft(x)
    same(aten._fft_r2c(x, [1], 0, onesided), spectrum)
    if onesided:
        same(aten._fft_c2r(spectrum, [1], 2, 6), x)
    else:
        same(aten._fft_c2c(spectrum, [1], 2, False).real, x)


def test_complex_copies() -> None:
    x = path(3, 2)
    z = torch.view_as_complex(x)
    same(torch.view_as_complex_copy(x), z)
    same(torch.view_as_real_copy(z), x)
    for copy in (torch.view_as_complex_copy(x), torch.view_as_real_copy(z)):
        copy.zero_()
    same(x, path(3, 2))


# --- exported programs ----------------------------------------------------------------------------


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(4, 12)
        self.norm = nn.LayerNorm(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.into(self.norm(x)).chunk(3, -1)
        return x + torch.softmax(q @ k.mT / 2, -1) @ v[..., :4]


class Pictures(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(2, 3, 3),
            nn.BatchNorm2d(3),
            nn.SiLU(),
            nn.MaxPool2d(2),
            nn.ConvTranspose2d(3, 2, 2),
            nn.GroupNorm(1, 2),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.AdaptiveAvgPool2d(2),
            nn.Dropout(0.5),
            nn.Flatten(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)[:, [0, 2, 1]].log_softmax(-1)


def deep() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 8), nn.GELU(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))


MODELS = [(deep, (5, 3)), (Attention, (2, 3, 4)), (Pictures, (2, 2, 6, 6))]


@pytest.mark.parametrize(("make", "shape"), MODELS)
@pytest.mark.parametrize("decomposed", [False, True])
def test_an_exported_program(make: Callable, shape: tuple, decomposed: bool) -> None:
    torch.manual_seed(0)
    model = make().double().eval()
    program = torch.export.export(model, (torch.rand(shape, dtype=F64),))
    if decomposed:
        program = program.run_decompositions()
    x = path(*shape)
    same(program.module()(x), model(x))


def test_an_operator_in_a_compiled_function() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return torch.ops.aten.sin.default(x) * torch.ops.aten.slice.Tensor(x, 0, 0, 1)

    x = path(2, 3)
    same(torch.compile(f, backend="eager", fullgraph=True)(x), f(x))


# --- by place in memory ---------------------------------------------------------------------------


def test_overlaps() -> None:
    assert not overlaps((2, 3), (3, 1))
    assert not overlaps((2, 3), (3, 2))
    assert not overlaps((0, 3), (0, 0))
    assert not overlaps((1, 3), (0, 1))
    assert overlaps((2, 3), (0, 1))
    assert overlaps((3, 2), (1, 1))


def test_as_strided_is_a_view_of_what_its_argument_is_a_view_of() -> None:
    base = path(4, 5)
    part = base[1:3, 2:]
    windows = part.as_strided((2, 2), (5, 1), 3)
    same(windows, base[:2, 3:5][:, :2])
    windows.mul_(2)
    twice = path(4, 5)
    twice[:2, 3:5] *= 2
    same(base, twice)
    base.zero_()
    assert all(not c.any() for c in windows.coeffs)
    same(path(4, 5)[1:3, 2:].as_strided((2,), (5,)), path(4, 5)[1:3, 2])


@pytest.mark.parametrize("directions", [1, 3])
def test_as_strided_of_other_series(directions: int) -> None:
    value = torch.rand(6, dtype=F64)
    y = TaylorTensor(value, directions=torch.rand(directions, 6, dtype=F64)).sin()
    same(y.as_strided((2, 2), (2, 1), 1), y[1:5].reshape(2, 2))
    u = tt.variables(torch.rand(4, 2, dtype=F64), order=2)
    same(u.exp().as_strided((3,), (2,)), u.exp()[:3, 0])
    nested = TaylorTensor(TaylorTensor(value))
    same(nested.exp().as_strided((3,), (2,)).value, nested.exp()[::2].value)


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda x: x.T.exp().as_strided((2,), (1,)), "row by row"),
        (lambda x: x.mul_(2).as_strided((2,), (1,)), "written"),
        (lambda x: x.as_strided((3,), (6,)), "outside"),
        (lambda x: x.as_strided((2,), (1,), 11), "outside"),
        (lambda x: x.as_strided_scatter(x[0], (4,), (0,)), "more than once"),
        (lambda x: x.as_strided_(((2,)), (1,)), "in place"),
        (
            lambda x: TaylorTensor(torch.rand(20, dtype=F64)[5:]).as_strided((2,), (1,), 0),
            "outside",
        ),
        (lambda x: TaylorTensor(torch.rand(20, dtype=F64)[5:8]).as_strided((4,), (1,)), "outside"),
    ],
)
def test_memory_that_cannot_be_followed(call: Callable, why: str) -> None:
    with pytest.raises(UnsupportedFunction, match=why):
        call(path(3, 4))


@pytest.mark.parametrize(
    "view", [lambda x: x.unfold(0, 2, 1), lambda x: x.as_strided((3, 2), (1, 1))]
)
def test_no_write_through_a_view_that_overlaps_itself(view: Callable) -> None:
    with pytest.raises(RuntimeError, match="single memory location"):
        view(path(4)).mul_(2)


def test_as_strided_in_a_compiled_function() -> None:
    def windows(x: torch.Tensor) -> torch.Tensor:
        return (x * x).as_strided((3, 2), (1, 1)).sum(-1)

    x = path(4)
    same(torch.compile(windows, backend="eager", fullgraph=True)(x), windows(x))
    same(windows(x), (x * x).unfold(0, 2, 1).sum(-1))
    shifted = torch.compile(lambda x: x.as_strided((2,), (1,), 1), backend="eager", fullgraph=True)
    with pytest.raises(Exception, match="storage offsets"):
        shifted(x)


COPIES = [rule.name for rule in ROWS if rule.says.startswith("a copy of") and rule.samples]


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_shares_nothing(name: str) -> None:
    (sample, *_) = (rule.samples for rule in ROWS if rule.name == name)
    x = TaylorTensor.from_coeffs(draw(sample[0], 2)[0])
    before = x.coeffs
    parts = getattr(torch, name)(x, *sample[0].args[1:])
    for part in parts if isinstance(parts, tuple) else (parts,):
        part.mul_(2)
        assert part.value.is_contiguous()
    assert all(torch.equal(a, b) for a, b in zip(x.coeffs, before, strict=True))


# --- bounds that move -----------------------------------------------------------------------------

TIES = [
    (1.0, 1.0, 2.0),
    (1.0, 0.0, 1.0),
    (1.0, 1.0, 1.0),
    (0.0, 1.0, 1.0),
    (2.0, 1.0, 1.0),
    (0.0, 1.0, 0.5),
    (2.0, 1.0, 0.5),
    (0.7, 0.0, 1.0),
]


@pytest.mark.parametrize(
    "bounded",
    [
        torch.clamp,
        lambda x, low, high: torch.clamp(x, min=low),
        lambda x, low, high: torch.clamp(x, max=high),
        lambda x, low, high: torch.clamp_min(x, low),
        lambda x, low, high: torch.clamp_max(x, max=high),
        lambda x, low, high: F.hardtanh(x, 0.5, 0.75).clamp_(low, high),
    ],
)
def test_a_clamp_at_ties_is_torchs(bounded: Callable) -> None:
    leaves = [torch.tensor(v, dtype=F64, requires_grad=True) for v in zip(*TIES, strict=True)]
    y = bounded(*leaves)
    slopes = torch.autograd.grad(y.sum(), leaves, allow_unused=True)
    for n, slope in enumerate(slopes):
        arguments: list[Any] = [leaf.detach() for leaf in leaves]
        arguments[n] = TaylorTensor(arguments[n], order=1)
        result = bounded(*arguments)
        if slope is None:
            assert not isinstance(result, TaylorTensor)
            continue
        torch.testing.assert_close(result.value, y.detach())
        torch.testing.assert_close(result.coeffs[1], slope)


def test_a_clamp_keeps_nan() -> None:
    x = TaylorTensor(torch.tensor([float("nan"), 2.0], dtype=F64))
    assert torch.clamp(x, path(2), 3 * path(2)).value[0].isnan()
    assert torch.clamp_min(path(2), x).value[0].isnan()


def test_a_fill_keeps_the_gradient_of_its_value() -> None:
    weight = torch.tensor(2.0, dtype=F64, requires_grad=True)
    for y in (torch.fill(path(2, 3), weight), path(2, 3).fill_(weight)):
        assert not any(c.any() for c in y.coeffs[1:])
        (slope,) = torch.autograd.grad(y.value.sum(), weight)
        assert slope == 6


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda x: x & x, "integers"),
        (lambda x: ~x, "integers"),
        (lambda x: 1 << x, "integers"),
        (lambda x: torch.gcd(x, x), "integers"),
        (lambda x: torch.bincount(torch.tensor([0, 1]), weights=x[0, :2]), "index_add"),
        (lambda x: torch.histogram(x, 3), "counts"),
        (
            lambda x: torch.fake_quantize_per_channel_affine(x, x[:, 0], x[:, 0], 0, 0, 255),
            "rounded",
        ),
        (lambda x: x.coalesce(), "dense"),
        (lambda x: x.q_scale(), "rounded"),
        (lambda x: torch.sym_max(x[0, 0], x[0, 1]), "sizes"),
        (lambda x: x.detach_(), r"x = x\.detach\(\)"),
        (lambda x: torch.miopen_convolution(x, x, x, [0], [0], [0], 1, True, True), "GPU"),
        (lambda x: torch.batch_norm_stats(x, 1e-5), r"torch\.batch_norm"),
    ],
)
def test_refusals_by_pattern(call: Callable, why: str) -> None:
    with pytest.raises(UnsupportedFunction, match=why):
        call(path(3, 4))
