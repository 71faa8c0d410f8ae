"""Laws that every rule obeys, without an oracle; generated from the rows of the tables.

Every law runs over the sample calls of ``test_rules``, with every tensor argument a series. Those
of ``taylortorch/testing/laws.py`` are what ``check_rule`` asks of a user's rule; a bundle is also
compared with its lines here, by code of its own, so that a fault in these laws shows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch

import taylortorch as tt
from taylortorch.algebra.structures import LINE, Bundle, Structure
from taylortorch.engine.registry import ROWS, name_of
from taylortorch.engine.samples import Sample, T
from taylortorch.engine.tensor import wrap
from taylortorch.testing import laws
from taylortorch.testing.samples import filled, invoke, outputs_of, tensors_in
from tests.calls import accepts, draw
from tests.oracle import along, contracted
from tests.references import REFERENCES, reference_for

# what torch itself cannot differentiate in reverse mode
NO_BACKWARD = (
    "torch.Tensor.__rmod__",
    "torch.geqrf",
    "torch.linalg.ldl_factor",
    "torch.linalg.ldl_factor_ex",
)


def one_per_sample() -> list[Any]:
    """Each sample call of each row, by the first callable that takes it."""
    found = []
    for rule in ROWS:
        if rule.kind in ("value", "constant"):
            continue
        for n, sample in enumerate(rule.samples):
            function = next(f for f in rule.functions if accepts(f, sample))
            found.append(pytest.param(function, sample, id=f"{name_of(function)}-{n}"))
    return found


# torch rounds constants of these slopes to single precision; its polygamma(1, x), the slope of
# digamma, has ten digits at small x, where steps of 1 lead from
IN_FULL_PRECISION = REFERENCES | {
    "digamma": lambda x: torch.digamma(x + 20) - sum(1 / (x + n) for n in range(20)),
    "celu": lambda x, alpha=1.0, *_: x.clamp_min(0) + alpha * (x.clamp_max(0) / alpha).expm1(),
    "hardsigmoid": lambda x, *_: (x + 3).clamp(0, 6) / 6,
    "hardswish": lambda x, *_: x * (x + 3).clamp(0, 6) / 6,
}
CASES = one_per_sample()
BACKWARD = [case for case in CASES if name_of(case.values[0]) not in NO_BACKWARD]
every_rule = pytest.mark.parametrize(("function", "sample"), CASES)
every_differentiable_rule = pytest.mark.parametrize(("function", "sample"), BACKWARD)
Blocks = list[Any]

# what batch normalisation says of training mode, where that is what the sample calls
pytestmark = pytest.mark.filterwarnings("ignore:batch normalisation in training mode")


def series_of(result: Any, order: int) -> Blocks:
    """The coefficients of one output; one that no series reached is a constant."""
    if isinstance(result, tt.TaylorTensor):
        assert result.order == order
        return list(result.coeffs)
    return [result, *(torch.zeros_like(result) for _ in range(order))]


def through(
    function: Any, sample: Sample, arguments: Sequence[Blocks], structure: Structure = LINE
) -> list[Blocks]:
    """The coefficients of every output, from the blocks of every argument."""
    order = len(arguments[0]) - 1
    results = invoke(function, sample, [wrap(blocks, structure, 0) for blocks in arguments])
    assert any(isinstance(r, tt.TaylorTensor) for r in results), "no series came out"
    return [series_of(r, order) for r in results]


def close(actual: Any, expected: Any, what: str = "") -> None:
    rtol, atol = (1e-4, 1e-4) if actual.dtype == torch.float32 else (1e-9, 1e-10)
    torch.testing.assert_close(
        actual, expected.expand_as(actual), rtol=rtol, atol=atol, msg=lambda m: f"{what}: {m}"
    )


def random(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=generator, dtype=torch.float64) - 0.5


def bundles(sample: Sample, order: int, count: int) -> list[Blocks]:
    """A series of ``count`` directions for each tensor of the sample."""
    generator = torch.Generator().manual_seed(2)
    return [
        [path[0], *(random(generator, count, *path[0].shape) for _ in range(order))]
        for path in draw(sample, 0)
    ]


def trial(function: Any, sample: Sample) -> laws.Trial:
    """The sample as laws see it, all its tensors being series."""
    generator = torch.Generator().manual_seed(3)
    values = [path[0] for path in draw(sample, 0)]

    def results(arguments: Sequence[Any], what: str) -> list[Any]:
        found = invoke(function, sample, arguments)
        series = [y for y in found if isinstance(y, tt.TaylorTensor)]
        assert series, f"no series came out of {what}"
        assert {y.order for y in series} == {x.order for x in arguments}
        return found

    def drawn(shape: Sequence[int], like: torch.Tensor) -> torch.Tensor:
        return random(generator, *shape)

    return laws.Trial(results, values, range(len(values)), drawn)


LAWS = {law.__name__: law for members in laws.LAWS.values() for law in members}


@every_rule
@pytest.mark.parametrize("law", LAWS)
def test_a_law(function: Any, sample: Sample, law: str) -> None:
    claims = list(LAWS[law](trial(function, sample), 3))
    assert len(claims) > 3
    for claim in claims:
        close(claim.got, claim.want, claim.what)


@every_rule
def test_scaling_t_scales_each_coefficient_by_a_power(function: Any, sample: Sample) -> None:
    paths, s = draw(sample, 3), -0.5
    plain = through(function, sample, paths)
    scaled = through(function, sample, [[c * s**k for k, c in enumerate(p)] for p in paths])
    for y, z in zip(scaled, plain, strict=True):
        for k in range(4):
            close(y[k], z[k] * s**k, f"c_{k}")


@every_rule
@pytest.mark.parametrize("structural", [True, False])
def test_a_constant_series_gives_a_constant(
    function: Any, sample: Sample, structural: bool
) -> None:
    values = [path[0] for path in draw(sample, 0)]
    arguments: list[Blocks] = [
        [x, *(None if structural else torch.zeros_like(x) for _ in range(3))] for x in values
    ]
    plain = invoke(function, sample, values)
    for y, value in zip(through(function, sample, arguments), plain, strict=True):
        close(y[0], value, "c_0")
        for k in (1, 2, 3):
            assert not y[k].any(), f"c_{k} is not zero"


@every_rule
def test_a_bundle_is_as_many_lines(function: Any, sample: Sample) -> None:
    arguments = bundles(sample, 3, 3)
    bundle = through(function, sample, arguments, Bundle(3))
    for r in range(3):
        line = through(function, sample, [[b[0], *(c[r] for c in b[1:])] for b in arguments])
        for y, z in zip(bundle, line, strict=True):
            close(y[0], z[0], "c_0")
            for k in (1, 2, 3):
                close(y[k][r], z[k], f"c_{k} along direction {r}")


@every_rule
@pytest.mark.parametrize("order", [1, 2])
def test_collapsed_at_a_lower_order(function: Any, sample: Sample, order: int) -> None:
    for claim in laws.collapsed(trial(function, sample), order):
        close(claim.got, claim.want, claim.what)


@every_rule
def test_weights_of_the_constructor_sum_the_top_of_directions(
    function: Any, sample: Sample
) -> None:
    arguments = bundles(sample, 1, 3)
    weights = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    summed, bundle = (
        invoke(
            function,
            sample,
            [tt.TaylorTensor(x, directions=v, order=2, weights=w) for x, v in arguments],
        )
        for w in (weights, None)
    )
    for y, z in zip(summed, bundle, strict=True):
        top = series_of(z, 2)[2]
        if isinstance(z, tt.TaylorTensor):
            top = torch.tensordot(weights.to(top.dtype), top, 1)
        close(series_of(y, 2)[2], top, "top")


def on_line(blocks: Blocks, indices: Any, v: Sequence[float]) -> Blocks:
    """The coefficients along ``h = v t`` of a series in several variables."""
    result = [blocks[0]]
    for k, degree in enumerate(indices[1:], 1):
        scales = [math.prod(c**n for c, n in zip(v, index, strict=True)) for index in degree]
        block = blocks[k]
        result.append(torch.tensordot(torch.tensor(scales, dtype=block.dtype), block, 1))
    return result


SINGLE = [
    case
    for case in CASES
    if len(found := tensors_in((case.values[1].args, tuple(case.values[1].kwargs.values())))) == 1
    and 0 < math.prod(found[0].shape) <= 8
]


@pytest.mark.parametrize(("function", "sample"), SINGLE)
def test_variables_agree_with_directions(function: Any, sample: Sample) -> None:
    ((x0,),) = draw(sample, 0)
    outputs = invoke(function, sample, [tt.variables(x0, order=2, event_dims=x0.ndim)])
    generator = torch.Generator().manual_seed(4)
    v = random(generator, x0.numel())
    along_v = invoke(function, sample, [tt.TaylorTensor(x0, v.reshape(x0.shape), order=2)])
    for y, z in zip(outputs, along_v, strict=True):
        if isinstance(y, tt.TaylorTensor):
            line = on_line(list(y.coeffs), y.multi_indices, v.tolist())
            for k, c in enumerate(line):
                close(c, z.coeffs[k], f"degree {k}")
        else:
            assert not isinstance(z, tt.TaylorTensor)


def weights_for(outputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [
        torch.rand(o.shape, generator=generator, dtype=torch.float64).to(o.dtype) for o in outputs
    ]


def gradients(total: torch.Tensor, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Zero where the total does not depend on an input."""
    if not total.requires_grad:
        return [torch.zeros_like(x) for x in inputs]
    return list(
        torch.autograd.grad(
            total, inputs, retain_graph=True, allow_unused=True, materialize_grads=True
        )
    )


@pytest.mark.parametrize("name", NO_BACKWARD)
def test_torch_has_no_backward_of(name: str) -> None:
    case = next(case for case in CASES if name_of(case.values[0]) == name)
    function, sample = case.values
    values = [path[0].requires_grad_() for path in draw(sample, 0)]
    with pytest.raises(RuntimeError, match=r"derivative for \S+ is not"):
        invoke(function, sample, values)[0].sum().backward()


@every_differentiable_rule
def test_gradients_of_a_coefficient_by_reverse_mode(function: Any, sample: Sample) -> None:
    paths = draw(sample, 2)
    values = [path[0].requires_grad_() for path in paths]
    plain = invoke(function, sample, values)
    weights = weights_for(plain)
    reference = reference_for(function)
    results = invoke(function, sample, [tt.TaylorTensor.from_coeffs(p) for p in paths])
    expected = along(lambda xs: invoke(reference, sample, xs), paths, 2, weights)
    for k in (0, 1, 2):
        mine = gradients(contracted(results, weights, k), values)
        theirs = gradients(expected[k], values)
        for a, b in zip(mine, theirs, strict=True):
            tolerance = 1e-3 if plain[0].dtype == torch.float32 else 1e-7
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@every_differentiable_rule
def test_the_first_derivative_is_right_to_the_last_digits(function: Any, sample: Sample) -> None:
    paths = draw(sample, 1)
    weights = weights_for(invoke(function, sample, [p[0] for p in paths]))
    results = invoke(function, sample, [tt.TaylorTensor.from_coeffs(p) for p in paths])
    reference = reference_for(function, IN_FULL_PRECISION)
    expected = along(lambda xs: invoke(reference, sample, xs), paths, 1, weights)[1].detach()
    if results[0].dtype not in (torch.float32, torch.complex64):
        torch.testing.assert_close(
            contracted(results, weights, 1), expected, rtol=1e-11, atol=1e-12
        )


@every_differentiable_rule
def test_the_jacobian_depends_on_the_difference_of_degrees(function: Any, sample: Sample) -> None:
    """``dy_k / dx_j = dy_{k-j} / dx_0``: so gradients flow to every coefficient of the input."""
    paths = [[c.requires_grad_() for c in path] for path in draw(sample, 3)]
    outputs = invoke(function, sample, [tt.TaylorTensor.from_coeffs(p) for p in paths])
    weights = weights_for(invoke(function, sample, [p[0].detach() for p in paths]))
    totals = [contracted(outputs, weights, k) / math.factorial(k) for k in range(4)]
    base = [gradients(total, [p[0] for p in paths]) for total in totals]
    for k in range(1, 4):
        for j in range(1, k + 1):
            shifted = gradients(totals[k], [p[j] for p in paths])
            for a, b in zip(shifted, base[k - j], strict=True):
                torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-8)


def fits(written: Any, sample: Sample) -> bool:
    """Whether torch itself can store this call's result in its first argument."""
    if not sample.args or not isinstance(sample.args[0], T):
        return False
    try:
        return accepts(written, sample)
    except RuntimeError:
        return False


def in_place_cases() -> list[Any]:
    return [
        pytest.param(written, rule.functions[0], sample, id=f"{name_of(written)}-{n}")
        for rule in ROWS
        if rule.kind not in ("value", "constant")
        for written in rule.in_place
        for n, sample in enumerate(rule.samples)
        if fits(written, sample) and accepts(rule.functions[0], sample)
    ]


@pytest.mark.parametrize(("written", "function", "sample"), in_place_cases())
def test_in_place_is_the_function_stored_in_its_argument(
    written: Any, function: Any, sample: Sample
) -> None:
    paths = draw(sample, 3)
    expected = through(function, sample, paths)[0]
    arguments: list[Any] = [tt.TaylorTensor.from_coeffs(p) for p in paths]
    target = arguments[0]
    stream = iter(arguments)
    args = filled(sample.args, stream)
    (result,) = outputs_of(
        written(*args, **{k: filled(a, stream) for k, a in sample.kwargs.items()})
    )
    assert result is target
    for k in range(4):
        close(target.coeffs[k], expected[k], f"c_{k}")
