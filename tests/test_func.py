"""``taylortorch.func`` against reverse mode over reverse mode and closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch

import taylortorch as tt
from tests.fields import (
    F64,
    mlp,
    partial,
    per_output,
    points,
    reverse_laplacian,
    same,
    same_gradients,
)

F = tt.func


class Siren(torch.nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.first, self.last = mlp(inputs, 6)[0], torch.nn.Linear(8, 1).double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.sin(3 * self.first(x)))[..., 0]


class Attention(torch.nn.Module):
    """Particles ``(B, n, 3)`` to one energy each."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Linear(3, 4).double()
        self.mix = torch.nn.Linear(4, 12).double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.mix(torch.tanh(self.embed(x))).chunk(3, -1)
        weights = torch.softmax(q @ k.transpose(-1, -2) / 2, -1)
        return (weights @ v).square().sum((-1, -2))


class Convolution(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 3, 2).double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.conv(x.unsqueeze(1))).sum((1, 2, 3))


def radial(x: torch.Tensor) -> torch.Tensor:
    """Pairwise screened Coulomb energy of particles."""
    apart = x.unsqueeze(-2) - x.unsqueeze(-3)
    r = (apart.square().sum(-1) + 0.3).sqrt()
    return (torch.exp(-r) / r).sum((-1, -2))


def scalar(f: Callable) -> Callable:
    return lambda x: f(x)[..., 0]


FIELDS: dict[str, tuple[Any, tuple[int, ...], int]] = {
    "mlp": (scalar(mlp(4)), (3, 4), 1),
    "one coordinate": (scalar(mlp(1)), (3, 1), 1),
    "one point": (scalar(mlp(4)), (4,), 1),
    "grid of batches": (scalar(mlp(2)), (2, 3, 2), 1),
    "siren": (Siren(3), (3, 3), 1),
    "attention": (Attention(), (2, 3, 3), 2),
    "convolution": (Convolution(), (2, 3, 3), 2),
    "radial": (radial, (2, 3, 3), 2),
    "samples": (torch.tanh, (5,), 0),
    "many": (scalar(mlp(50)), (2, 50), 1),
}
fields = pytest.mark.parametrize("name", FIELDS)


@fields
def test_first_and_second_derivatives(name: str) -> None:
    f, shape, event_dims = FIELDS[name]
    x = points(*shape)
    u = f(x)
    event = shape[len(shape) - event_dims :]
    count = math.prod(event)
    gradient = torch.stack([partial(u, x, [i]) for i in range(count)], -1)
    hessian = torch.stack(
        [torch.stack([partial(u, x, [i, j]) for j in range(count)], -1) for i in range(count)], -2
    )
    for chunk_size in (None, 2):
        options = {"event_dims": event_dims, "chunk_size": chunk_size}
        same(F.jacfwd(f, **options)(x), gradient.reshape(*u.shape, *event))
        same(F.hessian(f, **options)(x), hessian.reshape(*u.shape, *event, *event))
        diagonal = hessian.diagonal(dim1=-2, dim2=-1)
        same(F.hessian_diagonal(f, **options)(x), diagonal.reshape(*u.shape, *event))
        got, value = F.laplacian(f, return_value=True, **options)(x)
        same(got, diagonal.sum(-1))
        same(value, u, 1e-14)
        assert not isinstance(got, tt.TaylorTensor)
        assert not isinstance(value, tt.TaylorTensor)


@fields
def test_gradients_of_a_loss_on_the_laplacian(name: str) -> None:
    f, shape, event_dims = FIELDS[name]
    x = points(*shape)
    parameters = [x]
    if isinstance(f, torch.nn.Module):
        parameters += f.parameters()
    got = F.laplacian(f, event_dims=event_dims)(x)
    same_gradients(got, reverse_laplacian(f(x), x), parameters, twice=name != "many")


@pytest.mark.parametrize("d", [1, 2, 3, 4, 5, 6])
def test_biharmonic_both_ways(d: int) -> None:
    f, x = scalar(mlp(d)), points(2, d)
    expected = reverse_laplacian(reverse_laplacian(f(x), x), x)
    got, value = F.biharmonic(f, return_value=True)(x)
    same(got, expected)
    same(value, f(x), 0)
    nested = F.laplacian(F.laplacian(f))(x)
    same(nested, expected)
    if d < 4:
        parameters = [x]
        same_gradients(got, expected, parameters, twice=False)


def test_biharmonic_of_a_plane_wave() -> None:
    k = torch.tensor([1.0, -2.0, 0.5], dtype=F64)
    x = points(4, 3).detach()
    same(F.biharmonic(lambda x: torch.sin(x @ k))(x), (k @ k) ** 2 * torch.sin(x @ k))


@pytest.mark.parametrize(
    "index", [(1, 0, 0), (0, 2, 0), (2, 0, 1), (1, 1, 1), (0, 4, 2), (0, 0, 6)]
)
def test_mixed_partials(index: tuple[int, ...]) -> None:
    k = torch.tensor([1.0, -2.0, 0.5], dtype=F64)
    x = points(4, 3).detach()
    exact = math.prod(float(k[i]) ** n for i, n in enumerate(index)) * torch.exp(x @ k)
    same(F.mixed_partial(lambda x: torch.exp(x @ k), index)(x), exact)
    if sum(index) <= 3:
        f, x = mlp(3, 2), points(2, 3)
        along = [i for i, n in enumerate(index) for _ in range(n)]
        expected = per_output(lambda u: partial(u, x, along), f(x))
        same(F.mixed_partial(f, index)(x), expected)


def test_a_linear_operator_of_terms_of_all_kinds() -> None:
    f, x = scalar(mlp(3)), points(4, 3)
    scale = torch.tensor(0.3, dtype=F64, requires_grad=True)
    terms: dict[tuple[int, ...], Any] = {
        (2, 0, 0): 3,
        (0, 0, 2): Fraction(-1, 3),
        (1, 0, 0): 0.5,
        (0, 1, 1): lambda x: x[:, 0] ** 2,
        (0, 0, 0): 2,
        (0, 0, 3): 1,
        (2, 1, 0): scale,
    }
    u = f(x)

    def along(*coordinates: int) -> torch.Tensor:
        return partial(u, x, coordinates)

    expected = (
        3 * along(0, 0)
        - along(2, 2) / 3
        + 0.5 * along(0)
        + x[:, 0] ** 2 * along(1, 2)
        + 2 * u
        + along(2, 2, 2)
        + scale * along(0, 0, 1)
    )
    got, value = F.linear_operator(f, terms, return_value=True)(x)
    same(got, expected)
    same(value, u, 0)
    same_gradients(got, expected, [x, scale], twice=False)
    same(F.linear_operator(f, {})(x), torch.zeros_like(u))


def test_the_heat_operator_takes_one_row_for_its_second_derivatives() -> None:
    rows = []

    def f(x: Any) -> Any:
        rows.append([len(degree) for degree in x.multi_indices])
        return torch.sin(x).prod(-1)

    x = points(3, 4).detach()
    laplacian = {tuple(2 * (i == j) for j in range(4)): -1 for i in range(3)}
    same(
        F.linear_operator(f, {(0, 0, 0, 1): lambda x: torch.ones(3, dtype=F64), **laplacian})(x),
        torch.sin(x).prod(-1) * 3 + torch.sin(x[:, :3]).prod(-1) * torch.cos(x[:, 3]),
    )
    assert rows == [[1, 4, 1]]


def quadratic(hessian: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    return torch.einsum("nij,...ij->n", hessian, c) if c.ndim == 2 else (hessian * c).sum((1, 2))


@pytest.mark.parametrize("kind", ["constant", "per sample", "of x", "low rank", "requires grad"])
def test_weighted_laplacian(kind: str) -> None:
    f, x = scalar(mlp(4)), points(3, 4)
    hessian = F.hessian(f)(x)
    base = points(4, 4, seed=1).detach()
    c: Any = base + base.T
    given = c
    if kind == "per sample":
        given = c = torch.stack([c, torch.eye(4, dtype=F64), torch.zeros(4, 4, dtype=F64)])
    elif kind == "of x":
        given = lambda x: torch.diag_embed(x)  # noqa: E731
        c = torch.diag_embed(x)
    elif kind == "low rank":
        given = c = base[:, :1] @ base[:, :1].T - base[:, 1:2] @ base[:, 1:2].T
    elif kind == "requires grad":
        given = c = (base + base.T).requires_grad_()
    for chunk_size in (None, 3):
        same(F.weighted_laplacian(f, given, chunk_size=chunk_size)(x), quadratic(hessian, c))
    if kind == "requires grad":
        same_gradients(F.weighted_laplacian(f, c)(x), quadratic(hessian, c), [c, x])


def test_a_low_rank_matrix_takes_as_many_directions_as_its_rank() -> None:
    counts = []

    def f(x: Any) -> Any:
        counts.append(x._structure.count)
        return torch.tanh(x).prod(-1)

    s = points(5, 2, seed=3).detach()
    a = F.weighted_laplacian(f, s @ s.T)(points(3, 5).detach())
    b = F.weighted_laplacian(f, factor=s)(points(3, 5).detach())
    c = F.weighted_laplacian(f, factor=lambda x: s.expand(3, 5, 2))(points(3, 5).detach())
    same(a, b)
    same(a, c)
    assert counts == [2, 2, 2]


@pytest.mark.parametrize("drift", ["constant", "of x"])
def test_drift_and_diffusion(drift: str) -> None:
    f, x = scalar(mlp(3)), points(4, 3)
    b: Any = (lambda x: -x) if drift == "of x" else torch.tensor([1.0, -2.0, 0.5], dtype=F64)
    c = torch.eye(3, dtype=F64) / 2
    slope = F.jacfwd(f)(x)
    expected = F.laplacian(f)(x) / 2 + ((b(x) if callable(b) else b) * slope).sum(-1)
    for chunk_size in (None, 2):
        got = F.weighted_laplacian(f, c, drift=b, chunk_size=chunk_size)(x)
        same(got, expected)


def test_derivatives_jet_and_jvp() -> None:
    x = torch.tensor([0.3, 1.2], dtype=F64)
    for got, expected in zip(
        F.derivatives(torch.sin, x, order=3), (x.sin(), x.cos(), -x.sin(), -x.cos()), strict=True
    ):
        same(got, expected)
    # the documented example of jax.experimental.jet
    z = torch.tensor(0.5, dtype=F64)
    one, zero = torch.ones_like(z), torch.zeros_like(z)
    value, (first, second) = F.jet(lambda z: torch.sin(z**3), (z,), ((one, zero),))
    same(
        torch.stack([value, first, second]),
        torch.tensor([0.12467473, 0.74414825, 2.9064634], dtype=F64),
        1e-6,
    )
    # f2 = f' x2 + f'' x1^2 along a curve
    a, b = torch.tensor(2.0, dtype=F64), torch.tensor(3.0, dtype=F64)
    _, (_, second) = F.jet(torch.exp, (z,), ((a, b),))
    same(second, z.exp() * (b + a**2))
    f, p = mlp(3, 2), points(4, 3)
    v = points(4, 3, seed=1).detach()
    value, *terms = F.jvp(f, (p,), (v,), order=2)
    same(value, f(p), 0)
    expected, tangent = torch.func.jvp(f, (p,), (v,))
    same(terms[0], tangent)
    same(terms[1], torch.einsum("noij,ni,nj->no", F.hessian(f)(p), v, v))
    assert len(F.jvp(f, (p,), (v,))) == 2


def test_several_arguments_and_outputs() -> None:
    f = mlp(3, 2)

    def model(scale: torch.Tensor, x: torch.Tensor, *, shift: float) -> dict[str, Any]:
        y = f(x)
        return {"u": scale * y[:, 0], "pair": (y + shift, x.detach().sum(-1))}

    x, scale = points(4, 3), torch.tensor(2.0, dtype=F64)
    got, value = F.laplacian(model, argnums=1, return_value=True)(scale, x, shift=1.0)
    laplacian = F.laplacian(f)(x)
    same(got["u"], 2 * laplacian[:, 0])
    same(got["pair"][0], laplacian)
    # what does not depend on x has zero derivatives
    same(got["pair"][1], torch.zeros(4, dtype=F64))
    same(value["pair"][0], f(x) + 1.0, 0)
    hessian = F.hessian(model, argnums=-1)(scale, x, shift=0.0)
    same(hessian["pair"][1], torch.zeros(4, 3, 3, dtype=F64))


def test_transforms_nest_in_each_other_and_in_series() -> None:
    x = points(3, 2).detach()
    # grad of the Laplacian of x^2 y^2: Laplacian 2 (x^2 + y^2), gradient 4 (x, y)
    f = lambda x: x.square().prod(-1)  # noqa: E731
    same(F.jacfwd(F.laplacian(f))(x), 4 * x)
    # |grad|^2 = 4 x^2 y^4 + 4 x^4 y^2
    expected = 8 * (x**4).sum(-1) + 96 * x.square().prod(-1)
    same(F.laplacian(lambda x: F.jacfwd(f)(x).square().sum(-1))(x), expected)
    # a series from outside keeps its own derivatives
    a = tt.variables(torch.tensor([0.5, -1.0], dtype=F64), order=2)
    u = F.laplacian(lambda y: (y**4).sum(-1) * a**3)(torch.ones(2, 3, dtype=F64))
    same(u, 36 * a.value**3)
    same(tt.d(u, a, a), 216 * a.value)
    line = tt.TaylorTensor(torch.ones(2, 3, dtype=F64), order=1)
    y = F.laplacian(lambda y: (y**4).sum(-1))(line)
    same(y.coeffs[1], torch.full((2,), 72.0, dtype=F64))


def test_complex_fields() -> None:
    k = torch.tensor([1.0, -2.0, 0.5], dtype=F64)
    x = points(4, 3).detach()
    wave = lambda x: torch.exp(1j * (x @ k))  # noqa: E731
    same(F.laplacian(wave)(x), -(k @ k) * wave(x))
    same(F.jacfwd(wave)(x), 1j * k * wave(x).unsqueeze(-1))
    z = torch.randn(2, 3, dtype=torch.complex128)
    same(F.laplacian(lambda z: (z**3).sum(-1))(z), 6 * z.sum(-1))


def test_vmap_and_grad_of_torch_func_around() -> None:
    f, x = scalar(mlp(3)), points(4, 3).detach()
    expected = F.laplacian(f)(x)
    same(torch.vmap(F.laplacian(f))(x), expected)
    gradient = torch.func.grad(lambda x: F.laplacian(f)(x).sum())(x)
    x = x.requires_grad_()
    same(gradient, torch.autograd.grad(reverse_laplacian(f(x), x).sum(), x)[0])


def test_known_answers() -> None:
    # heyoka's x y^2 z^3 at (1, 2, 3)
    x = torch.tensor([1.0, 2.0, 3.0], dtype=F64)
    hessian = F.hessian(lambda x: x[..., 0] * x[..., 1] ** 2 * x[..., 2] ** 3)(x)
    expected = [[0, 108, 108], [108, 54, 108], [108, 108, 72]]
    same(hessian, torch.tensor(expected, dtype=F64))
    # audi: x^5 + x^3 y z + x y^3 z at (1, 1, 1)
    one = torch.ones(3, dtype=F64)

    def f(p: torch.Tensor) -> torch.Tensor:
        x, y, z = p.unbind(-1)
        return x**5 + x**3 * y * z + x * y**3 * z

    for index, value in {
        (1, 1, 1): 6,
        (2, 1, 1): 6,
        (1, 2, 1): 6,
        (1, 1, 2): 0,
        (4, 0, 0): 120,
    }.items():
        same(F.mixed_partial(f, index)(one), torch.tensor(float(value), dtype=F64))
    # audi: (x y + 2 x^2 y) / (1 + x + y) at (1, 1)
    g = lambda p: (p[..., 0] * p[..., 1] + 2 * p[..., 0] ** 2 * p[..., 1]) / (1 + p.sum(-1))  # noqa: E731
    for index, value in {(1, 1): 1, (2, 2): 0, (3, 3): 0, (4, 4): 0}.items():
        same(F.mixed_partial(g, index)(one[:2]), torch.tensor(float(value), dtype=F64))
    # the Poisson example of torch-jet
    p = points(5, 2).detach()
    poisson = lambda x: torch.sin(math.pi * x).prod(-1)  # noqa: E731
    same(F.laplacian(poisson)(p), -2 * math.pi**2 * poisson(p))
    # d^4/dx1 dx2 dx3 dx4 sin(x1^2 x2^2 x3^2 x4^2)
    q = torch.tensor([[0.1, 0.2, 0.3, 0.4]], dtype=F64, requires_grad=True)
    f4 = lambda x: torch.sin(x.square().prod(-1))  # noqa: E731
    same(F.mixed_partial(f4, (1, 1, 1, 1))(q), partial(f4(q), q, [0, 1, 2, 3]))


def test_edges() -> None:
    f = scalar(mlp(3))
    assert F.laplacian(f)(torch.zeros(0, 3, dtype=F64)).shape == (0,)
    assert F.hessian(f)(torch.zeros(0, 3, dtype=F64)).shape == (0, 3, 3)
    for transform in (F.laplacian, F.hessian, F.jacfwd, F.hessian_diagonal, F.biharmonic):
        result = transform(lambda x: x.sum(-1))(torch.zeros(2, 0))
        assert result.shape[0] == 2
        assert not result.any()
    same(F.laplacian(lambda x: torch.ones(2, dtype=F64))(points(2, 3)), torch.zeros(2, dtype=F64))
    # a chunk size that does not divide, or is larger than there is
    x = points(2, 3)
    for chunk_size in (1, 2, 7):
        same(F.laplacian(f, chunk_size=chunk_size)(x), F.laplacian(f)(x))


def test_mixing_samples_is_noticed() -> None:
    norm = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Tanh()
    ).double()
    x = points(5, 3).detach()
    for use in (
        lambda: F.laplacian(norm)(x),
        lambda: F.jacfwd(norm)(x),
        lambda: F.biharmonic(norm)(x),
        lambda: F.stochastic.biharmonic(norm, 2)(x),
        lambda: F.weighted_laplacian(norm, torch.eye(3, dtype=F64))(x),
        lambda: norm(tt.variables(x)),
    ):
        with pytest.warns(UserWarning, match="mixes the samples of a batch.*eval"):
            use()


BAD: dict[str, tuple[Callable, type, str]] = {
    "reduced": (lambda x: F.laplacian(lambda x: x.sum())(x), ValueError, "batch shape.*event_dims"),
    "three axes": (lambda x: F.hessian(torch.tanh)(x[None]), ValueError, "pass event_dims"),
    "event_dims": (lambda x: F.hessian(torch.tanh, event_dims=3)(x), ValueError, "event_dims=3"),
    "event_dims type": (lambda x: F.jacfwd(torch.tanh, event_dims="a")(x), TypeError, "an int"),
    "not a function": (lambda x: F.laplacian(x), TypeError, r"laplacian\(f\)\(x\)"),
    "integers": (lambda x: F.laplacian(torch.tanh)(x.long()), TypeError, "floating-point"),
    "not a tensor": (lambda x: F.laplacian(torch.tanh)([1.0]), TypeError, "must be a tensor"),
    "no argument": (lambda x: F.laplacian(torch.tanh)(), ValueError, "0 positional arguments"),
    "argnums": (lambda x: F.laplacian(torch.tanh, 1)(x), ValueError, "argnums=1.*1 positional"),
    "argnums type": (
        lambda x: F.laplacian(torch.tanh, "x")(x),
        TypeError,
        "argnums must be an int",
    ),
    "chunk size": (lambda x: F.laplacian(torch.tanh, chunk_size=0)(x), ValueError, "at least 1"),
    "chunk type": (lambda x: F.laplacian(torch.tanh, chunk_size=1.5)(x), TypeError, "int or None"),
    "a list": (lambda x: F.laplacian(lambda x: [1.0])(x), TypeError, "returned a float"),
    "index length": (lambda x: F.mixed_partial(torch.tanh, (1, 1))(x), ValueError, "3 coordinates"),
    "index sign": (lambda x: F.mixed_partial(torch.tanh, (1, -1, 0))(x), ValueError, "entry >= 0"),
    "terms": (lambda x: F.linear_operator(torch.tanh, [(1, 0, 0)]), TypeError, "mapping"),
    "coefficient": (
        lambda x: F.linear_operator(torch.tanh, {(1, 0, 0): torch.ones(3)})(x),
        ValueError,
        "batch shape",
    ),
    "asymmetric": (
        lambda x: F.weighted_laplacian(torch.tanh, torch.ones(3, 3).triu())(x),
        ValueError,
        r"not symmetric.*C \+ C.mT",
    ),
    "matrix shape": (
        lambda x: F.weighted_laplacian(torch.tanh, torch.ones(2, 2))(x),
        ValueError,
        r"\(3, 3\)",
    ),
    "both": (
        lambda x: F.weighted_laplacian(torch.tanh, x, factor=x),
        TypeError,
        "matrix= or factor=",
    ),
    "drift": (
        lambda x: F.weighted_laplacian(torch.tanh, torch.eye(3), drift=torch.ones(2))(x),
        ValueError,
        "drift must have shape",
    ),
    "jet lengths": (lambda x: F.jet(torch.add, (x, x), ((x,), (x, x))), ValueError, "one length"),
    "jet number": (lambda x: F.jet(torch.add, (x, x), ((x,),)), ValueError, "2 primals"),
    "jet shape": (lambda x: F.jet(torch.tanh, (x,), ((x[0],),)), ValueError, "has shape"),
    "jvp tuples": (lambda x: F.jvp(torch.tanh, x, x), TypeError, "tuples"),
    "jvp number": (lambda x: F.jvp(torch.tanh, (x,), ()), ValueError, "1 primals"),
    "order": (lambda x: F.derivatives(torch.tanh, x, order=-1), ValueError, ">= 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str) -> None:
    use, error, message = BAD[name]
    with pytest.raises(error, match=message):
        use(torch.rand(2, 3))
