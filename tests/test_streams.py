"""Series that become known degree by degree: every rule gives what it gives on the whole series."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction as Q
from typing import Any

import pytest
import torch

from taylortorch.algebra import series
from taylortorch.algebra.series import by_degree, each
from taylortorch.algebra.streams import Stream, Tape, Unknown
from taylortorch.algebra.structures import LINE, Line
from taylortorch.engine.frames import Frame
from taylortorch.engine.registry import name_of
from taylortorch.engine.samples import Sample
from taylortorch.engine.tensor import wrap
from taylortorch.testing.samples import invoke
from tests.calls import draw
from tests.test_laws import every_rule

ORDER = 4

# factorisations, and pairs of Bessel functions that grow together
NAMES = """
    cholesky cholesky_inverse cholesky_solve det geqrf inverse logdet lu_solve pinverse qr slogdet
    svd nuclear_norm triangular_solve functional.lu
    linalg.cholesky linalg.cholesky_ex linalg.cond linalg.eig linalg.eigh linalg.eigvals
    linalg.eigvalsh linalg.inv_ex linalg.ldl_factor linalg.ldl_factor_ex linalg.ldl_solve
    linalg.lstsq linalg.lu linalg.lu_factor linalg.lu_factor_ex linalg.lu_solve linalg.matrix_norm
    linalg.pinv linalg.qr linalg.slogdet linalg.solve linalg.solve_ex linalg.solve_triangular
    linalg.svd linalg.svdvals linalg.tensorinv linalg.tensorsolve
    i0 special.i0e special.i1 special.i1e special.bessel_j0 special.bessel_j1 special.bessel_y0
    special.bessel_y1 special.modified_bessel_i0 special.modified_bessel_i1
    special.modified_bessel_k0 special.modified_bessel_k1 special.scaled_modified_bessel_k0
    special.scaled_modified_bessel_k1
"""
NEED_THE_WHOLE = NAMES.split()


def revealed(tape: Tape, blocks: list[Any]) -> Stream:
    """A stream of blocks that are there already, shown one after the other."""
    return Stream(tape, blocks[0], len(blocks), lambda known, k: blocks[k])


def follows(function: Any) -> bool:
    return name_of(function).removeprefix("torch.").removeprefix("Tensor.") not in NEED_THE_WHOLE


@every_rule
def test_a_rule_on_a_stream(function: Any, sample: Sample) -> None:
    paths, tape = draw(sample, ORDER), Tape()
    try:
        outputs = invoke(function, sample, [wrap(revealed(tape, p), LINE, 0) for p in paths])
        for _ in range(ORDER):
            tape.advance()
    except Unknown:
        assert not follows(function), (
            f"{name_of(function)} cannot follow its input degree by degree"
        )
        return
    whole = invoke(function, sample, [wrap(path, LINE, 0) for path in paths])
    for y, z in zip(outputs, whole, strict=True):
        for k in range(ORDER + 1):
            a, b = (Frame(0, LINE, ORDER).blocks(x)[k] for x in (y, z))
            if a is None or b is None:
                assert a is b
            else:
                torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12, equal_nan=True)


class Counted(Q):
    """A rational number that counts its products."""

    products = 0

    def __mul__(self, other: Any) -> Any:
        Counted.products += 1
        return Counted(Q.__mul__(self, other))

    def __add__(self, other: Any) -> Any:
        return Counted(Q.__add__(self, other))

    def __truediv__(self, other: Any) -> Any:
        return Counted(Q.__truediv__(self, other))


def solve(f: Callable, y0: Any, order: int) -> list[Any]:
    """The coefficients of the solution of ``y' = f(y)``."""
    tape = Tape()
    y = Stream(tape, y0, order + 1, lambda known, k: slope[k - 1] / k)
    slope = f(y)
    for _ in range(order):
        tape.advance()
    tape.close()
    return y.known


def test_tangent_solves_its_equation_exactly() -> None:
    # y' = 1 + y^2
    def f(y: Any) -> Any:
        squared = series.square(Line(), y)
        return each(lambda c: c, squared, squared[0] + 1)

    y = solve(f, Q(0), 13)
    assert (y[7], y[13]) == (Q(17, 315), Q(21844, 6081075))
    assert not any(y[::2])


@pytest.mark.parametrize("order", [1, 5, 20, 40])
def test_every_product_is_formed_once(order: int) -> None:
    # y' = y y: the product of degree k has k + 1 terms, k = 0 ... order
    Counted.products = 0
    y = solve(lambda y: series.cauchy(Line(), y, y), Counted(1), order)
    assert y == [1] * (order + 1)
    assert Counted.products == (order + 1) * (order + 2) // 2


def test_what_a_stream_shows() -> None:
    tape = Tape()
    x = revealed(tape, [5, 6, None, 8])
    assert (len(x), x[0], x[-4], x[:1]) == (4, 5, 5, (5,))
    for early in (1, -1, slice(1, None), slice(0, 4, 2)):
        with pytest.raises(Unknown):
            x[early]
    with pytest.raises(IndexError):
        x[4]
    lower = x[:-1]
    tape.advance()
    assert (x[1], lower[1], len(lower)) == (6, 6, 3)
    for _ in range(5):
        tape.advance()
    assert list(x) == [5, 6, None, 8]
    assert list(lower) == [5, 6, None]
    assert x[1:] == (6, None, 8)


def test_known_blocks_give_lists_and_streams_give_streams() -> None:
    def term(y: Any, k: int) -> int:
        return y[k - 1] + k

    tape = Tape()
    x = revealed(tape, [0, 0, 0])
    assert by_degree(1, 2, term, [0, 0, 0]) == [1, 2, 4]
    y = by_degree(1, 2, term, [0, 0, 0], x)
    assert isinstance(y, Stream)
    tape.advance()
    assert y[1] == 2
    tape.close()
    tape.advance()
    with pytest.raises(Unknown):
        y[2]
