"""Linear algebra beyond the samples of its rows.

Every structure and dtype against the equations that define the function; singular, nearly singular
and degenerate matrices; factors that are determined up to a choice; sparse matrices; segments.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch

import taylortorch as tt
from tests.oracle import along, contracted
from tests.references import complete_qr, geqrf

DTYPES = (torch.float64, torch.complex128, torch.float32)
STRUCTURES = ("line", "bundle", "collapsed", "variables")


def random(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    double = torch.complex128 if dtype.is_complex else torch.float64
    return torch.randn(shape, dtype=double, generator=torch.Generator().manual_seed(seed)).to(dtype)


def hermitian(x: torch.Tensor) -> torch.Tensor:
    return (x + x.mH) / 2


def separated(x: torch.Tensor) -> torch.Tensor:
    """The same with well separated singular values: 1, 2, 3 ... and a little noise."""
    m, n = x.shape[-2:]
    rising = torch.arange(1, min(m, n) + 1).to(x.dtype)
    return 0.2 * x + torch.nn.functional.pad(
        torch.diag(rising), (0, max(n - m, 0), 0, max(m - n, 0))
    )


def series(
    structure: str,
    *shape: int,
    order: int,
    dtype: torch.dtype = torch.float64,
    prepare: Callable = separated,
    symmetric: bool = False,
    seed: int = 0,
) -> Any:
    """A matrix that moves in every direction of the structure."""

    def direction(n: int) -> torch.Tensor:
        x = random(*shape, dtype=dtype, seed=seed + n) / 3
        return hermitian(x) if symmetric else x

    value = prepare(random(*shape, dtype=dtype, seed=seed))
    value = hermitian(value) if symmetric else value
    if structure == "line":
        return tt.TaylorTensor.from_coeffs([value, *(direction(n) for n in range(1, order + 1))])
    if structure == "variables":
        point = torch.zeros(2, dtype=dtype if dtype == torch.float32 else torch.float64)
        x, y = tt.variables(*point, order=order)
        return value + x * direction(1) + y * direction(2) + x * y * direction(3)
    weights = None if structure == "bundle" else torch.tensor([0.5, -1.0, 2.0]).to(dtype)
    directions = torch.stack([direction(n) for n in range(1, 4)])
    A = tt.TaylorTensor(value, directions=directions, order=order, weights=weights)
    # so that every degree moves, as along a curve
    return A + torch.matmul(A - value, A - value) / 5 if shape[-1] == shape[-2] else A


def same(left: Any, right: Any, tolerance: float | None = None) -> None:
    """Equal coefficients of all degrees, up to rounding of the largest."""
    order = max(x.order for x in (left, right) if isinstance(x, tt.TaylorTensor))
    for k in range(order + 1):
        a, b = (
            x.coeffs[k]
            if isinstance(x, tt.TaylorTensor)
            else (x if k == 0 else torch.zeros((), dtype=x.dtype))
            for x in (left, right)
        )
        if tolerance is None:
            tolerance = 2e-3 if a.dtype in (torch.float32, torch.complex64) else 1e-8
        scale = max(float(a.abs().max()), float(b.abs().max()), 1.0)
        error = float((a - b).abs().max())
        assert error <= tolerance * scale, f"degree {k}: {error} of {scale}"


def eye(n: int, like: Any) -> torch.Tensor:
    return torch.eye(n, dtype=like.dtype)


def diagonal(w: Any, V: Any) -> Any:
    return torch.diag_embed(w.to(V.dtype))


# --- the defining equations, in every structure and dtype -----------------------------------------


def _inv(A: Any) -> Any:
    yield A @ torch.linalg.inv(A), eye(3, A)


def _solve(A: Any) -> Any:
    B = A[..., :2] * 2 + 1
    yield A @ torch.linalg.solve(A, B), B
    yield torch.linalg.solve(A, B.mT, left=False) @ A, B.mT


def _triangular(A: Any) -> Any:
    B = A[..., :2] * 2 + 1
    yield A.triu() @ torch.linalg.solve_triangular(A, B, upper=True), B
    yield A.tril() @ torch.triangular_solve(B, A, upper=False).solution, B
    yield A.mT.triu() @ torch.triangular_solve(B, A, upper=False, transpose=True).solution, B


def _cholesky(A: Any) -> Any:
    L = torch.linalg.cholesky(A)
    yield L @ L.mH, A
    yield L.triu(1), torch.zeros_like(A.value)
    yield torch.linalg.cholesky(A, upper=True), L.mH
    yield A @ torch.cholesky_inverse(L), eye(3, A)
    yield A @ torch.cholesky_solve(A.value, L), A.value


def _qr(A: Any) -> Any:
    Q, R = torch.linalg.qr(A)
    k = Q.shape[-1]
    yield Q @ R, A
    yield Q.mH @ Q, eye(k, A)
    yield R[..., :k].tril(-1), torch.zeros_like(R.value[..., :k])
    yield R.diagonal(0, -2, -1).imag if A.is_complex() else R * 0, 0 * R.value.real.sum()
    yield torch.linalg.qr(A, mode="r").R, R


def _complete_qr(A: Any) -> Any:
    Q, R = torch.linalg.qr(A, mode="complete")
    m, n = A.shape[-2:]
    yield Q @ R, A
    yield Q.mH @ Q, eye(m, A)
    packed, scales = torch.geqrf(A)
    yield packed.triu(), R
    unpacked = torch.linalg.householder_product(packed, scales)
    yield unpacked, Q[..., :n]


def _lu(A: Any) -> Any:
    P, L, U = torch.linalg.lu(A)
    n = min(A.shape[-2:])
    yield P @ L @ U, A
    yield L.triu(1), torch.zeros_like(L.value)
    yield L.diagonal(0, -2, -1), torch.ones(n, dtype=A.dtype)
    yield U.tril(-1), torch.zeros_like(U.value)
    packed, pivots = torch.linalg.lu_factor(A)
    yield from zip(torch.lu_unpack(packed, pivots), (P, L, U), strict=True)
    if A.shape[-1] == A.shape[-2]:
        B = A[..., :2] + 1
        yield A @ torch.linalg.lu_solve(packed, pivots, B), B
        yield A.mH @ torch.linalg.lu_solve(packed, pivots, B, adjoint=True), B


def _svd(A: Any) -> Any:
    U, S, Vh = torch.linalg.svd(A, full_matrices=False)
    k = S.shape[-1]
    yield U @ diagonal(S, U) @ Vh, A
    yield U.mH @ U, eye(k, A)
    yield Vh @ Vh.mH, eye(k, A)
    yield torch.linalg.svdvals(A), S
    yield (A.abs() ** 2).sum((-2, -1)), (S * S).sum(-1)


def _full_svd(A: Any) -> Any:
    U, S, Vh = torch.linalg.svd(A)
    for x, value in zip((U, S, Vh), torch.linalg.svd(A.value), strict=True):
        assert torch.equal(x.value, value)
    k = S.shape[-1]
    m, n = A.shape[-2:]
    yield U[..., :k] @ diagonal(S, U) @ Vh[..., :k, :], A
    yield U.mH @ U, eye(m, A)
    yield Vh @ Vh.mH, eye(n, A)
    # the added columns are the basis closest to that of the value
    for X in (U, Vh.mH)[n > m :][:1]:
        overlap = X.value[..., k:].mH @ X[..., k:]
        yield overlap, overlap.mH
    yield from zip(torch.svd(A, some=False), (U, S, Vh.mH), strict=True)


def _eigh(A: Any) -> Any:
    w, V = torch.linalg.eigh(A)
    yield A @ V, V @ diagonal(w, V)
    yield V.mH @ V, eye(3, A)
    yield torch.linalg.eigvalsh(A), w
    # the phase that is kept: no rotation of a vector along itself
    yield (V.value.conj() * V).sum(-2).imag if A.is_complex() else w * 0, w.value * 0


def _eig(A: Any) -> Any:
    w, V = torch.linalg.eig(A)
    yield A.to(V.dtype) @ V, V @ diagonal(w, V)
    yield (V.abs() ** 2).sum(-2), torch.ones_like(w.value.real)
    yield torch.linalg.eigvals(A), w
    yield w.sum(-1), A.diagonal(0, -2, -1).sum(-1).to(w.dtype)
    yield w.prod(-1), torch.linalg.det(A).to(w.dtype)


def _determinants(A: Any) -> Any:
    sign, log = torch.linalg.slogdet(A)
    yield sign * log.exp(), torch.linalg.det(A)
    yield (sign.abs() ** 2), torch.ones_like(log.value)
    B = A.value.mT + 2 * eye(A.shape[-1], A)
    yield torch.linalg.det(A @ B), torch.linalg.det(A) * torch.linalg.det(B)
    w = torch.linalg.eigvals(A)
    yield torch.linalg.det(A).to(w.dtype), w.prod(-1)


def _pinv(A: Any) -> Any:
    P = torch.linalg.pinv(A)
    yield A @ P @ A, A
    yield P @ A @ P, P
    yield A @ P, (A @ P).mH
    yield P @ A, (P @ A).mH
    B = A.value[..., :2] + 1
    yield torch.linalg.lstsq(A, B).solution, P @ B


def _ldl(A: Any) -> Any:
    hermitian = A.is_complex()
    B = A.value[..., :2] + 1
    LD, pivots = torch.linalg.ldl_factor(A, hermitian=hermitian)
    assert bool((pivots < 0).any()), "no block of two"
    yield A @ torch.linalg.ldl_solve(LD, pivots, B, hermitian=hermitian), B
    yield torch.linalg.ldl_factor_ex(A, hermitian=hermitian).LD, LD


def _exp(A: Any) -> Any:
    E = torch.linalg.matrix_exp(A)
    yield E @ torch.linalg.matrix_exp(-A), eye(3, A)
    yield E @ A, A @ E
    w, V = torch.linalg.eig(A)
    yield E.to(V.dtype) @ V, V @ diagonal(w.exp(), V)


def _power(A: Any) -> Any:
    yield torch.linalg.matrix_power(A, 5), A @ A @ A @ A @ A
    yield torch.linalg.matrix_power(A, -2) @ A @ A, eye(3, A)


def indefinite(x: torch.Tensor) -> torch.Tensor:
    x = hermitian(x)
    return x - 0.98 * torch.diag_embed(torch.diagonal(x, 0, -2, -1))


def pivoting(x: torch.Tensor) -> torch.Tensor:
    """The rows in an order that LU with pivoting changes."""
    return torch.flip(separated(x), (-2,))


EQUATIONS: dict[str, tuple[Callable, tuple, dict]] = {
    "inv": (_inv, (2, 3, 3), {}),
    "solve": (_solve, (2, 3, 3), {}),
    "solve_triangular": (_triangular, (2, 3, 3), {}),
    "cholesky": (_cholesky, (2, 3, 3), {"symmetric": True}),
    "qr": (_qr, (2, 3, 3), {}),
    "qr of a tall matrix": (_qr, (2, 4, 2), {}),
    "qr of a wide matrix": (_qr, (2, 2, 4), {}),
    "complete qr": (_complete_qr, (2, 4, 2), {"prepare": torch.clone}),
    "lu": (_lu, (2, 3, 3), {"prepare": pivoting}),
    "lu of a tall matrix": (_lu, (4, 2), {"prepare": pivoting}),
    "lu of a wide matrix": (_lu, (2, 4), {"prepare": pivoting}),
    "svd": (_svd, (2, 3, 3), {}),
    "svd of a tall matrix": (_svd, (4, 2), {}),
    "svd of a wide matrix": (_svd, (2, 2, 4), {}),
    "full svd of a tall matrix": (_full_svd, (2, 5, 2), {}),
    "full svd of a wide matrix": (_full_svd, (2, 4), {}),
    "eigh": (_eigh, (2, 3, 3), {"symmetric": True}),
    "eig": (_eig, (2, 3, 3), {}),
    "determinants": (_determinants, (2, 4, 4), {}),
    "pinv": (_pinv, (2, 3, 3), {}),
    "pinv of a tall matrix": (_pinv, (2, 4, 2), {}),
    "pinv of a wide matrix": (_pinv, (2, 4), {}),
    "ldl": (_ldl, (4, 4), {"symmetric": True, "prepare": indefinite}),
    "matrix_exp": (_exp, (2, 3, 3), {}),
    "matrix_power": (_power, (2, 3, 3), {}),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("name", EQUATIONS)
def test_the_equations_that_define_it(name: str, structure: str, dtype: torch.dtype) -> None:
    equations, shape, options = EQUATIONS[name]
    order = 3 if dtype == torch.float32 else 5 if structure == "line" else 4
    A = series(structure, *shape, order=order, dtype=dtype, **options)
    count = 0
    for left, right in equations(A):
        same(left, right)
        count += 1
    assert count


NESTED: dict[str, Callable] = {
    "inv": torch.linalg.inv,
    "det": torch.linalg.det,
    "det of a singular matrix": lambda A: torch.linalg.det(A - A.detach()),
    "logabsdet": lambda A: torch.linalg.slogdet(A)[1],
    "cholesky": lambda A: torch.linalg.cholesky(A @ A.mT + torch.eye(4)),
    "qr": lambda A: torch.linalg.qr(A)[1],
    "complete qr": lambda A: torch.linalg.qr(A[:, :2], mode="complete")[0],
    "lu": lambda A: torch.linalg.lu(A)[1],
    "svd": lambda A: torch.linalg.svd(A[:, :2])[0][:, :2],
    "eigh": lambda A: torch.linalg.eigh(A + A.mT)[1],
    "pinv of constant rank": lambda A: torch.linalg.pinv(A[:, :2] @ A[:2]),
    "matrix_exp": torch.linalg.matrix_exp,
}


@pytest.mark.parametrize("name", NESTED)
def test_nested_levels_are_several_variables(name: str) -> None:
    f = NESTED[name]
    value, one, other = (random(4, 4, seed=n) for n in (7, 8, 9))
    value = separated(value)
    nested = f(tt.TaylorTensor(tt.TaylorTensor(value, one, order=2), other, order=1))
    x, y = tt.variables(torch.zeros((), dtype=torch.float64), torch.zeros(()).double(), order=3)
    several = f(value + x * one + y * other)
    place = several.multi_indices[3].index((2, 1))
    torch.testing.assert_close(
        nested.coeffs[1].coeffs[2], several.coeffs[3][place], rtol=1e-8, atol=1e-8
    )


TRACED: dict[str, Callable] = {
    "det": torch.linalg.det,
    "det of nearly singular matrices": lambda A: torch.linalg.det(A - A.detach() * (1 - 1e-9)),
    "det of singular matrices": lambda A: torch.linalg.det(A[..., :2] @ A[..., :2, :]),
    "pinv": lambda A: torch.linalg.pinv(A[..., :2]),
    "pinv of constant rank": lambda A: torch.linalg.pinv(A[..., :2] @ A[..., :2, :]),
    "lstsq": lambda A: torch.linalg.lstsq(A, A[..., :2]).solution,
    "matrix_exp": torch.linalg.matrix_exp,
    "svd": lambda A: torch.linalg.svd(A[..., :2])[0],
    "qr": lambda A: torch.linalg.qr(A[..., :2], mode="complete")[0],
}


@pytest.mark.parametrize("name", TRACED)
def test_inside_of_vmap(name: str) -> None:
    """Where no number can be asked for."""
    f = TRACED[name]
    A = series("bundle", 3, 4, 4, order=4)
    (mine,) = torch.vmap(lambda A: (f(A),))(A)
    same(mine, f(A), 1e-9)


def test_inside_of_vmap_what_cannot_be_served_is_refused_or_nan() -> None:
    A = series("line", 3, 4, 4, order=2, symmetric=True)
    with pytest.raises(tt.UnsupportedFunction, match=r"ldl_factor.*whole batch"):
        torch.vmap(lambda A: (torch.linalg.ldl_factor(A)[0],))(A)
    singular = torch.diag(torch.tensor([1.0, 2.0, 0.0], dtype=torch.float64)).expand(2, 3, 3)
    moving = tt.TaylorTensor(singular, torch.eye(3, dtype=torch.float64))
    (y,) = torch.vmap(lambda A: (torch.linalg.pinv(A),))(moving)
    assert y.coeffs[1].isnan().all()


PARAMETERS: dict[str, Callable] = {
    "det": torch.linalg.det,
    "det of a nearly singular matrix": lambda A: torch.linalg.det(A - A.new_tensor(LARGEST)),
    "slogdet": lambda A: torch.linalg.slogdet(A)[1],
    "solve": lambda A: torch.linalg.solve(A, A[:, :2].sin()),
    "svdvals": torch.linalg.svdvals,
    "eigvalsh": lambda A: torch.linalg.eigvalsh(A + A.mT),
    "pinv of constant rank": lambda A: torch.linalg.pinv(A[:, :2] @ A[:2]),
    "matrix_exp": torch.linalg.matrix_exp,
}
LARGEST = torch.diag(torch.tensor([0.0, 0.0, 3.0, 4.0])).tolist()


@pytest.mark.parametrize("name", PARAMETERS)
def test_gradients_of_parameters_through_coefficients(name: str) -> None:
    """The trace of the second derivative, trained: nested autograd gives the same gradients."""
    f = PARAMETERS[name]
    W = separated(random(4, 4, seed=1)).requires_grad_()
    directions = random(3, 4, 4, seed=2)
    y = f(tt.TaylorTensor(W, directions=directions, order=2, weights=1))
    weights = random(*y.shape, seed=3)
    (mine,) = torch.autograd.grad((y.coeffs[2] * weights).sum(), W)
    total: Any = 0.0
    for v in directions:
        total = total + along(lambda a: (f(a[0]),), [[W, v]], 2, [weights])[2] / 2
    (theirs,) = torch.autograd.grad(total, W)
    torch.testing.assert_close(mine, theirs, rtol=1e-7, atol=1e-8)


# --- singular and nearly singular determinants ----------------------------------------------------


def exact_determinant(coeffs: list[torch.Tensor]) -> list[float]:
    """Leibniz' sum over permutations, of polynomials with rational coefficients."""
    order, n = len(coeffs) - 1, coeffs[0].shape[0]
    entries = [[[Fraction(float(c[i, j])) for c in coeffs] for j in range(n)] for i in range(n)]
    total = [Fraction(0)] * (order + 1)
    for places in itertools.permutations(range(n)):
        swaps = sum(a > b for a, b in itertools.combinations(places, 2))
        term = [Fraction((-1) ** swaps)] + [Fraction(0)] * order
        for i, j in enumerate(places):
            factor = entries[i][j]
            term = [
                sum((term[d] * factor[k - d] for d in range(k + 1)), Fraction(0))
                for k in range(order + 1)
            ]
        total = [a + b for a, b in zip(total, term, strict=True)]
    return [float(x) for x in total]


def of_singular_values(*values: float) -> torch.Tensor:
    n = len(values)
    U, V = (torch.linalg.qr(random(n, n, seed=seed)).Q for seed in (1, 2))
    return U @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ V


@pytest.mark.parametrize("small", [0.3, 1e-2, 1e-4, 1e-7, 1e-11, 0.0])
@pytest.mark.parametrize("missing", [1, 2, 4])
def test_det_near_and_at_singular_matrices(small: float, missing: int) -> None:
    values = [2.0, 1.0, 0.8, 0.5]
    value = of_singular_values(*values[: 4 - missing], *[small] * missing)
    order = 5 if missing < 4 else 4
    coeffs = [value, *(random(4, 4, seed=n) / 3 for n in range(3, 3 + order))]
    y = torch.linalg.det(tt.TaylorTensor.from_coeffs(coeffs))
    assert y.value == torch.linalg.det(value)
    for k, expected in enumerate(exact_determinant(coeffs)[1:], 1):
        # singular values below rounding are rounding
        assert float(y.coeffs[k]) == pytest.approx(expected, rel=1e-9, abs=1e-15), k


def test_det_of_exactly_singular_matrices() -> None:
    value = torch.tensor(
        [[1, 2, 3, 4], [2, 4, 6, 8], [0, 1, 0, 1], [1, 3, 3, 5]], dtype=torch.float64
    )
    zero = torch.zeros(4, 4, dtype=torch.float64)
    directions = random(3, 4, 4, seed=5)
    batch = torch.stack([value, zero, torch.eye(4, dtype=torch.float64)])
    y = torch.linalg.det(tt.TaylorTensor(batch, directions[:, None].expand(3, 3, 4, 4)[0], order=4))
    for n in range(3):
        coeffs = [batch[n], directions[0]] + [zero] * 3
        for k, expected in enumerate(exact_determinant(coeffs)):
            assert float(y.coeffs[k][n]) == pytest.approx(expected, rel=1e-12, abs=1e-14)
    laplacian = tt.TaylorTensor(value, directions=directions, order=2, weights=1)
    expected = sum(exact_determinant([value, v, zero])[2] for v in directions)
    assert float(torch.linalg.det(laplacian).coeffs[2]) == pytest.approx(expected, rel=1e-12)


def test_det_of_a_singular_complex_matrix() -> None:
    a, b = random(4, 2, dtype=torch.complex128), random(2, 4, dtype=torch.complex128, seed=1)
    v = random(4, 4, dtype=torch.complex128, seed=2)
    y = torch.linalg.det(tt.TaylorTensor(a @ b, v, order=4))
    # a polynomial of degree 4: its coefficients from its values at roots of unity
    roots = torch.polar(torch.ones(5).double(), 2 * math.pi * torch.arange(5).double() / 5)
    values = torch.linalg.det(a @ b + roots[:, None, None] * v)
    for k in range(5):
        expected = (values * roots**-k).mean()
        torch.testing.assert_close(y.coeffs[k], expected, rtol=1e-12, atol=1e-13)


def test_det_in_single_precision() -> None:
    value = of_singular_values(1.0, 0.9, 0.5, 1e-5).float()
    coeffs = [value, *(random(4, 4, seed=n).float() for n in (3, 4))]
    y = torch.linalg.det(tt.TaylorTensor.from_coeffs(coeffs))
    for k, expected in enumerate(exact_determinant(coeffs)[1:], 1):
        assert float(y.coeffs[k]) == pytest.approx(expected, rel=1e-4)


def test_det_of_a_matrix_with_nan_is_nan() -> None:
    A = torch.full((5, 5), math.nan, dtype=torch.float64)
    assert torch.linalg.det(tt.TaylorTensor(A)).coeffs[2].isnan()


@pytest.mark.parametrize("f", [torch.linalg.slogdet, torch.logdet, torch.linalg.inv])
def test_singular_matrices_are_torchs_error(f: Callable) -> None:
    A = torch.diag(torch.tensor([1.0, 2.0, 3.0, 0.0]))
    with pytest.raises(torch.linalg.LinAlgError):
        f(tt.TaylorTensor(A))


def test_the_sign_of_slogdet() -> None:
    A = separated(random(4, 4))
    A[0] *= -1
    sign, log = torch.linalg.slogdet(tt.TaylorTensor(A, random(4, 4, seed=1), order=3))
    assert sign.value == -1
    assert not any(c.any() for c in sign.coeffs[1:])
    same(sign * log.exp(), torch.linalg.det(tt.TaylorTensor(A, random(4, 4, seed=1), order=3)))


# --- repeated eigenvalues and singular values -----------------------------------------------------


def repeated(exactly: bool) -> torch.Tensor:
    """Eigenvalues 1, 1, 2: exactly equal ones, or up to rounding."""
    D = torch.diag(torch.tensor([1.0, 1.0, 2.0], dtype=torch.float64))
    Q = torch.linalg.qr(random(3, 3)).Q
    return D if exactly else hermitian(Q @ D @ Q.mT)


@pytest.mark.parametrize("exactly", [True, False])
@pytest.mark.parametrize(
    "f",
    [
        lambda A: torch.linalg.eigh(A)[1],
        lambda A: torch.linalg.eig(A)[1].abs(),
        lambda A: torch.linalg.svd(A)[0],
        lambda A: torch.linalg.svd(A)[2],
    ],
)
def test_vectors_of_repeated_eigenvalues_have_no_derivative(f: Callable, exactly: bool) -> None:
    y = f(tt.TaylorTensor(repeated(exactly), hermitian(random(3, 3, seed=4)), order=1))
    assert not y.coeffs[1].isfinite().all()


@pytest.mark.parametrize("exactly", [True, False])
@pytest.mark.parametrize(
    "f",
    [
        lambda A: torch.linalg.eigvalsh(A).exp().sum(),
        lambda A: torch.linalg.eigvals(A).exp().sum(),
        lambda A: torch.linalg.svdvals(A).exp().sum(),
    ],
)
def test_sums_over_repeated_eigenvalues(f: Callable, exactly: bool) -> None:
    """The first derivative is right; noise in the second one is NaN rather than a number."""
    A, v = repeated(exactly), hermitian(random(3, 3, seed=4))
    y = f(tt.TaylorTensor(A, v, order=2))
    expected = torch.trace(torch.linalg.matrix_exp(A) @ v)
    torch.testing.assert_close(y.coeffs[1].real, expected)
    assert y.coeffs[2].isnan()


def test_eigenvalues_that_are_close_but_distinct() -> None:
    gap = 1e-6
    A = torch.diag(torch.tensor([1.0, 1.0 + gap], dtype=torch.float64))
    v = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    w = torch.linalg.eigvalsh(tt.TaylorTensor(A, v, order=2))
    torch.testing.assert_close(
        w.coeffs[2], torch.tensor([-1 / gap, 1 / gap], dtype=torch.float64), rtol=1e-9, atol=0
    )


def test_vectors_of_the_singular_value_zero() -> None:
    A = torch.diag(torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64))
    tall = torch.cat([A, torch.zeros(1, 3, dtype=torch.float64)])
    U, S, Vh = torch.linalg.svd(tt.TaylorTensor(tall, random(4, 3), order=2), full_matrices=False)
    assert not U.coeffs[1][:, 2].isfinite().all()
    assert U.coeffs[1][:, :2].isfinite().all()
    assert S.coeffs[1].isfinite().all()
    assert Vh.coeffs[1].isfinite().all()


# --- factors that are determined up to a choice ---------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 2), (2, 5, 3), (3, 1), (3, 3), (2, 4)])
def test_complete_qr_and_geqrf_are_those_of_the_reflections(shape: tuple[int, ...]) -> None:
    paths = [[random(*shape, seed=n) for n in range(5)]]
    A = tt.TaylorTensor.from_coeffs(paths[0])
    for mine, reference in (
        (torch.linalg.qr(A, mode="complete"), complete_qr),
        (torch.geqrf(A), geqrf),
    ):
        plain = reference(paths[0][0])
        for y, value in zip(mine, plain, strict=True):
            torch.testing.assert_close(y.value, value)
        weights = [random(*o.shape, seed=9) for o in plain]
        expected = along(lambda a, f=reference: f(a[0]), paths, 4, weights)
        for k in range(5):
            torch.testing.assert_close(contracted(mine, weights, k), expected[k], rtol=1e-8, atol=0)


def test_the_added_singular_vectors_move_least() -> None:
    A = tt.TaylorTensor(separated(random(5, 2)), random(5, 2, seed=1), order=1)
    U = torch.linalg.svd(A)[0]
    first, extra = U.value[:, :2], U.value[:, 2:]
    expected = -first @ U.coeffs[1][:, :2].mT @ extra
    torch.testing.assert_close(U.coeffs[1][:, 2:], expected)


def test_svd_without_vectors() -> None:
    A = tt.TaylorTensor(random(4, 3), random(4, 3, seed=1), order=3)
    U, S, V = torch.svd(A, compute_uv=False)
    same(S, torch.linalg.svdvals(A))
    assert not any(c.any() for x in (U, V) for c in x.coeffs[1:])


# --- pseudo-inverses ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_pinv_of_constant_rank(structure: str, dtype: torch.dtype) -> None:
    a = series(structure, 2, 5, 2, order=4, dtype=dtype)
    b = 1 + a[:, :4] * a[:, 1:]
    A = a @ b.mH
    expected = torch.linalg.pinv(b.mH) @ torch.linalg.pinv(a)
    P = torch.linalg.pinv(A)
    same(P, expected)
    right = random(2, 5, 3, dtype=dtype, seed=5)
    same(torch.linalg.lstsq(A, right).solution, expected @ right)
    same(torch.linalg.lstsq(A.value, A @ P @ right).solution, P.value @ (A @ P @ right))


def test_pinv_refuses_a_change_of_rank() -> None:
    A = torch.diag(torch.tensor([1.0, 2.0, 0.0], dtype=torch.float64))
    inside = torch.diag(torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64))
    y = torch.linalg.pinv(tt.TaylorTensor(A, inside, order=2))
    expected = [[1.0, 0.5, 0.0], [-1.0, -0.25, 0.0], [1.0, 0.125, 0.0]]
    for c, diagonal in zip(y.coeffs, expected, strict=True):
        torch.testing.assert_close(c, torch.diag(torch.tensor(diagonal, dtype=torch.float64)))
    outside = torch.eye(3, dtype=torch.float64)
    with pytest.raises(tt.UnsupportedFunction, match=r"pinv.*degree 1.*constant rank"):
        torch.linalg.pinv(tt.TaylorTensor(A, outside))
    with pytest.raises(tt.UnsupportedFunction, match=r"lstsq.*degree 1.*constant rank"):
        torch.linalg.lstsq(tt.TaylorTensor(A, outside), torch.ones(3, 1, dtype=torch.float64))
    with pytest.raises(tt.UnsupportedFunction, match=r"degree 2"):
        torch.linalg.pinv(tt.TaylorTensor.from_coeffs([A, inside, outside]))
    with pytest.raises(tt.UnsupportedFunction, match="tolerance drops"):
        torch.linalg.pinv(tt.TaylorTensor(A + outside / 50, inside), rtol=0.1)


# --- others ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", [1e-3, 1.0, 30.0, 300.0])
def test_matrix_exp_of_every_norm_at_high_order(norm: float) -> None:
    """Higham's block Toeplitz matrix: its exponential has the coefficients in its first row."""
    A, B, order = random(3, 3), random(3, 3, seed=1), 14
    A = (A - A.mT) / torch.linalg.matrix_norm(A, 2) * norm
    y = torch.linalg.matrix_exp(tt.TaylorTensor(A, B, order=order))
    one, shift = torch.eye(order + 1).double(), torch.diag(torch.ones(order).double(), 1)
    E = torch.linalg.matrix_exp(torch.kron(one, A) + torch.kron(shift, B))
    for k in range(order + 1):
        expected = E[:3, 3 * k : 3 * k + 3]
        scale = float(expected.abs().max())
        torch.testing.assert_close(y.coeffs[k], expected, rtol=0, atol=1e-12 * scale)


def test_matrix_exp_keeps_its_digits_at_high_order() -> None:
    """At the largest norm that is not halved."""
    y = torch.linalg.matrix_exp(tt.TaylorTensor(torch.full((1, 1), 0.5).double(), order=20))
    for k, c in enumerate(y.coeffs):
        assert float(c) == pytest.approx(math.exp(0.5) / math.factorial(k), rel=1e-14, abs=0)


def test_matrix_exp_of_a_nilpotent_matrix() -> None:
    N = torch.diag(torch.ones(3, dtype=torch.float64), 1)
    y = torch.linalg.matrix_exp(tt.TaylorTensor(0 * N, N, order=5))
    for k in range(6):
        expected = torch.linalg.matrix_power(N, k) / math.factorial(k)
        torch.testing.assert_close(y.coeffs[k], expected)


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("general", [True, False])
def test_lobpcg(general: bool, largest: bool) -> None:
    A = series("line", 9, 9, order=3, symmetric=True)
    B = torch.eye(9, dtype=torch.float64) if not general else A @ A / 9 + torch.eye(9)
    torch.manual_seed(0)
    options = {"largest": largest, "niter": 300, "tol": 1e-12}
    E, X = torch.lobpcg(A, k=2, B=B if general else None, **options)
    torch.manual_seed(0)
    plain = torch.lobpcg(A.value, k=2, B=B.value if general else None, **options)
    assert torch.equal(E.value, plain[0])
    assert torch.equal(X.value, plain[1])
    same(A @ X, B @ X * E, 1e-6)
    same(X.mT @ B @ X, torch.eye(2, dtype=torch.float64), 1e-6)
    with pytest.raises(tt.UnsupportedFunction, match="the start X"):
        torch.lobpcg(A.value, X=X)


@pytest.mark.parametrize("f", [torch.svd_lowrank, torch.pca_lowrank])
def test_low_rank_decompositions_draw_once(f: Callable) -> None:
    paths = [[random(6, 4, seed=n) for n in range(4)]]

    def body(a: list[Any]) -> Any:
        torch.manual_seed(0)
        U, S, V = f(a[0], q=3)
        return U @ torch.diag_embed(S) @ V.mT, S

    weights = [random(6, 4), random(3)]
    mine = body([tt.TaylorTensor.from_coeffs(paths[0])])
    expected = along(body, paths, 3, weights)
    for k in range(4):
        torch.testing.assert_close(contracted(mine, weights, k), expected[k], rtol=1e-7, atol=1e-8)


def test_ldl_stores_what_lapack_stores() -> None:
    A, v = indefinite(random(6, 6, seed=3)), hermitian(random(6, 6, seed=4))
    LD, pivots = torch.linalg.ldl_factor(tt.TaylorTensor(A, v, order=2))
    step = 1e-4
    up, down = (torch.linalg.ldl_factor(A + sign * step * v) for sign in (1, -1))
    assert torch.equal(up.pivots, pivots)
    assert torch.equal(down.pivots, pivots)
    torch.testing.assert_close(LD.coeffs[1], (up.LD - down.LD) / (2 * step), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        LD.coeffs[2], (up.LD - 2 * LD.value + down.LD) / (2 * step**2), rtol=1e-4, atol=1e-4
    )


# --- sparse matrices, constant -------------------------------------------------------------------

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "Sparse", UserWarning)
    DENSE = torch.tensor(
        [[0.0, 2.0, 0.0], [0.0, 0.0, 0.0], [0.5, 0.0, -1.0], [1.0, 0.3, 0.0]], dtype=torch.float64
    )
    SPARSE = {
        "coo": DENSE.to_sparse(),
        "csr": DENSE.to_sparse_csr(),
        "csc": DENSE.to_sparse_csc(),
    }
PRODUCTS: dict[str, Callable] = {
    "S @ x": lambda S, x: S @ x,
    "x @ S": lambda S, x: x[:, :1].mT @ x @ torch.ones(2, 4, dtype=x.dtype) @ S,
    "matmul": lambda S, x: torch.matmul(S, x),
    "mm": lambda S, x: torch.mm(S, x),
    "S.mm": lambda S, x: S.mm(x),
    "S @ v": lambda S, x: S @ x[:, 0],
    "mv": lambda S, x: torch.mv(S, x[:, 1]),
    "linear": lambda S, x: torch.nn.functional.linear(x.mT, S),
    "addmm": lambda S, x: torch.addmm(x[:1], S, x, beta=0.5, alpha=2),
    "addmv": lambda S, x: torch.addmv(x[0, :1], S, x[:, 0]),
    "sum": lambda S, x: S + torch.ones(4, 2, dtype=x.dtype) @ x.mT,
    "layers": lambda S, x: torch.relu(S.t() @ torch.tanh(S @ x)),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("layout", SPARSE)
@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("name", PRODUCTS)
def test_products_with_a_sparse_matrix(name: str, structure: str, layout: str) -> None:
    f, S = PRODUCTS[name], SPARSE[layout]
    x = series(structure, 3, 2, order=3, prepare=torch.clone)
    same(f(S, x), f(DENSE, x), 1e-13)
    # a shared direction has size 1 along the columns
    x = tt.TaylorTensor(random(3, 2), order=2)
    same(f(S, x), f(DENSE, x), 1e-13)


@pytest.mark.parametrize("layout", SPARSE)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_sparse_mm(structure: str, layout: str) -> None:
    S = SPARSE[layout]
    x = series(structure, 3, 2, order=3, prepare=torch.clone)
    same(torch.sparse.mm(S, x), DENSE @ x, 1e-13)
    same(torch.sparse.mm(x.mT, S.t()), x.mT @ DENSE.mT, 1e-13)
    start = DENSE @ x * 2
    same(torch.sparse.addmm(start, S, x, beta=0.5, alpha=2), 0.5 * start + 2 * DENSE @ x, 1e-13)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_sparse_mm_with_other_reductions(structure: str) -> None:
    S = SPARSE["csr"]
    x = series(structure, 3, 2, order=3, prepare=torch.clone)
    kept = (DENSE != 0).unsqueeze(-1)
    terms = DENSE.unsqueeze(-1) * x
    count = kept.sum(1).clamp(min=1)
    expected = {
        "sum": terms.sum(1),
        "mean": terms.sum(1) / count,
        "amax": torch.where(kept, terms, -math.inf).amax(1),
        "amin": torch.where(kept, terms, math.inf).amin(1),
    }
    for reduce, y in expected.items():
        y = torch.where(kept.any(1), y, 0.0)
        mine = torch.sparse.mm(S, x, reduce)
        torch.testing.assert_close(mine.value, torch.sparse.mm(S, x.value, reduce))
        same(mine, y, 1e-13)
    with pytest.raises(RuntimeError):
        torch.sparse.mm(S, x, "median")


def test_extremes_of_equal_terms_follow_torch() -> None:
    S = torch.ones(1, 3, dtype=torch.float64).to_sparse_csr()
    x = torch.ones(3, 2, dtype=torch.float64, requires_grad=True)
    torch.sparse.mm(S, x, "amax").sum().backward()
    v = random(3, 2)
    y = torch.sparse.mm(S, tt.TaylorTensor(x.detach(), v, order=1), "amax")
    torch.testing.assert_close(y.coeffs[1], (x.grad * v).sum(0, keepdim=True))


def test_training_through_a_sparse_product() -> None:
    """A graph layer's weights and the values of its adjacency learn from second derivatives."""
    places = DENSE.nonzero().mT
    values = DENSE[tuple(places)].clone().requires_grad_()
    W = random(2, 2, seed=1).requires_grad_()
    x = random(3, 2)

    def laplacian(product: Callable) -> torch.Tensor:
        h = tt.TaylorTensor(x, directions=random(4, 3, 2, seed=2), order=2, weights=1)
        return (torch.tanh(product(h @ W)).coeffs[2] ** 2).sum()

    sparse = torch.sparse_coo_tensor(places, values, DENSE.shape, check_invariants=True)
    mine = torch.autograd.grad(laplacian(lambda h: torch.sparse.mm(sparse, h)), (values, W))
    dense = torch.zeros_like(DENSE).index_put(tuple(places), values)
    theirs = torch.autograd.grad(laplacian(lambda h: dense @ h), (values, W))
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b)


REFUSED: dict[str, tuple[Callable, str]] = {
    "sampled_addmm": (
        lambda S, x: torch.sparse.sampled_addmm(S["csr"], x[:1].mT.expand(2, 4).mT, x.mT),
        r"torch\.sparse\.sampled_addmm.*result is sparse",
    ),
    "smm": (lambda S, x: torch.smm(S["coo"], x), r"torch\.smm.*torch\.sparse\.mm"),
    "hspmm": (lambda S, x: torch.hspmm(S["coo"], x), r"torch\.hspmm.*torch\.sparse\.mm"),
    "sspaddmm": (
        lambda S, x: torch.sspaddmm(S["coo"], S["coo"], x),
        r"torch\.sspaddmm.*torch\.sparse\.addmm",
    ),
    "to_sparse": (lambda S, x: x.to_sparse(), r"to_sparse.*a series is dense"),
    "to_sparse_csr": (lambda S, x: x.to_sparse_csr(), r"to_sparse_csr.*a series is dense"),
    "sparse_mask": (lambda S, x: x.sparse_mask(S["coo"]), r"sparse_mask.*a series is dense"),
    "a product of entries": (lambda S, x: S["coo"] * x[:1, :1], r"sparse result.*\.to_dense\(\)"),
    "values": (
        lambda S, x: torch.sparse_coo_tensor(
            torch.tensor([[0, 1], [1, 0]]), x[0], (2, 2), check_invariants=False
        ),
        r"values of a sparse tensor.*index_add",
    ),
    "values of rows": (
        lambda S, x: torch.sparse_csr_tensor(
            torch.tensor([0, 1, 2]), torch.tensor([1, 0]), x[0], check_invariants=False
        ),
        r"values of a sparse tensor.*index_add",
    ),
    "spdiags": (
        lambda S, x: torch.sparse.spdiags(x[0], torch.tensor([0]), (2, 2)),
        r"spdiags.*result is sparse",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_a_sparse_series_is_refused(name: str) -> None:
    f, message = REFUSED[name]
    x = tt.TaylorTensor(random(3, 2), random(3, 2, seed=1))
    with pytest.raises(tt.UnsupportedFunction, match=message):
        f(SPARSE, x)


@pytest.mark.parametrize("layout", SPARSE)
def test_a_sparse_tensor_is_no_value(layout: str) -> None:
    with pytest.raises(TypeError, match=r"must be a dense tensor, got torch\.sparse.*to_dense"):
        tt.TaylorTensor(SPARSE[layout])
    with pytest.raises(TypeError, match="must be a dense tensor"):
        tt.TaylorTensor.from_coeffs([SPARSE[layout], SPARSE[layout]])


# --- segments -------------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("reduce", ["sum", "mean", "max", "min", "prod"])
def test_segments_are_reduced_one_by_one(reduce: str, structure: str) -> None:
    x = series(structure, 7, 2, order=3, prepare=torch.clone)
    offsets = torch.tensor([0, 2, 2, 5, 6])
    body = {
        "sum": lambda part: part.sum(0),
        "mean": lambda part: part.mean(0),
        "prod": lambda part: part.prod(0),
        "max": lambda part: part.amax(0),
        "min": lambda part: part.amin(0),
    }[reduce]
    # the last row is in no segment, the second segment is empty
    y = torch.segment_reduce(x, reduce, offsets=offsets, unsafe=True)
    empty = {"sum": 0.0, "mean": math.nan, "prod": 1.0, "max": -math.inf, "min": math.inf}[reduce]
    plain = torch.segment_reduce(x.value, reduce, offsets=offsets, unsafe=True)
    torch.testing.assert_close(y.value, plain, equal_nan=True)
    assert torch.equal(y.value[1].nan_to_num(7.0), torch.full((2,), empty).double().nan_to_num(7.0))
    for n, (a, b) in enumerate(itertools.pairwise(offsets.tolist())):
        if a < b:
            same(y[n], body(x[a:b]), 1e-12)
    started = torch.segment_reduce(x, reduce, lengths=torch.tensor([7, 0]), initial=1.25)
    torch.testing.assert_close(
        started.value,
        torch.segment_reduce(x.value, reduce, lengths=torch.tensor([7, 0]), initial=1.25),
    )
    assert not any(c[..., 1, :].any() for c in started.coeffs[1:])


@pytest.mark.parametrize("initial", [None, 1.0, 3.0])
def test_equal_extremes_of_a_segment_share(initial: float | None) -> None:
    x = torch.tensor([1.0, 1.0, 0.5, 2.0], dtype=torch.float64, requires_grad=True)
    v, options = random(4), {"lengths": torch.tensor([3, 1]), "initial": initial}
    torch.segment_reduce(x, "max", **options).sum().backward()
    y = torch.segment_reduce(tt.TaylorTensor(x.detach(), v, order=1), "max", **options)
    torch.testing.assert_close(y.coeffs[1].sum(), (x.grad * v).sum())


def test_products_of_segments_with_zeros() -> None:
    x = torch.tensor([0.0, 2.0, 0.0, 3.0], dtype=torch.float64)
    y = torch.segment_reduce(tt.TaylorTensor(x, order=3), "prod", lengths=torch.tensor([3, 1]))
    # t (2 + t) t and 3 + t
    assert [c.tolist() for c in y.coeffs] == [[0, 3], [0, 1], [2, 0], [1, 0]]
