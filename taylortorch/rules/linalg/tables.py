"""Linear systems, determinants and factorisations, each solved degree by degree.

Every function here is defined by polynomial equations between matrices: ``A X = B``, ``L L^H = A``,
``A V = V diag(w)``. Read off at degree k, such an equation is linear in the coefficients of degree
k of its unknowns, and its matrix is that of degree 0: one factorisation, torch's own, serves all
degrees and directions. What remains are matrix products of lower degrees, which the structure
forms; so the recurrences hold along a line, for bundles, collapsed, and in several variables.

Cholesky factors and Hermitian eigenproblems read one triangle of the value. Their coefficients of
degree >= 1 are taken as ``(A_k + A_k^H) / 2``, the convention of torch's gradient of ``cholesky``.

Sources: Walter & Lehmann, *Algorithmic differentiation of linear algebra functions* (2012), for QR
and ``eigh``; Giles, *Collected matrix derivative results* (2008), for the degree-1 forms.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from ...engine.registry import add_rule
from ...engine.samples import call, t
from .blocks import rule
from .built import (
    cond,
    householder_product,
    lobpcg,
    lstsq,
    matrix_exp,
    ormqr,
    pca_lowrank,
    pinv,
    svd_lowrank,
    vander,
)
from .determinants import det, logdet, slogdet
from .factors import (
    cholesky,
    geqrf,
    ldl_factor,
    ldl_solve,
    linalg_lu_solve,
    linalg_qr,
    lu,
    lu_factor,
    lu_solve,
    lu_unpack,
    qr,
)
from .roots import matrix_root, polar
from .samples import D3, D23, R3, R4, R23, TALL, TALLS, WIDE, Regular
from .spectra import eig, eigh, linalg_svd, svd, svdvals
from .systems import (
    cholesky_inverse,
    cholesky_solve,
    inv,
    solve,
    solve_triangular,
    tensorinv,
    tensorsolve,
    triangular_solve,
)

# near 2 / |v|^2, which makes reflections; torch divides by 1 - tau |v|^2
SCALES = t(3, low=1.0, high=1.4)


PIVOTS = torch.tensor([2, 3, 3], dtype=torch.int32)


PIVOTS_OF_TWO = torch.tensor([2, 2], dtype=torch.int32)


SYSTEMS: dict[str, tuple[Callable, str, list]] = {
    "inverse linalg.inv": (inv, "A X = 1", [call(R3), call(R23)]),
    "linalg.inv_ex": (inv, "A X = 1", [call(R23)]),
    "linalg.solve": (
        solve,
        "A X = B",
        [
            call(R3, t(3)),
            call(R23, t(2, 3, 2)),
            call(R3, t(2, 3, 2)),
            call(R23, t(3, 2)),
            call(R23, t(2, 3)),
            call(R3, t(2, 3), left=False),
        ],
    ),
    "linalg.solve_ex": (solve, "A X = B", [call(R23, t(2, 3, 2))]),
    "linalg.solve_triangular": (
        solve_triangular,
        "A X = B",
        [
            call(R3, t(3, 2), upper=True),
            call(R23, t(3, 2), upper=False),
            call(R3, t(2, 2, 3), upper=False, left=False),
            call(R3, t(3, 2), upper=True, unitriangular=True),
        ],
    ),
    "triangular_solve": (
        triangular_solve,
        "A X = input",
        [
            call(t(3, 2), R3),
            call(t(2, 3, 2), R23, False, True),
            call(t(3, 2), R3, unitriangular=True),
        ],
    ),
    "cholesky_solve": (
        cholesky_solve,
        "L L^H X = input",
        [call(t(3, 2), R3), call(t(2, 3, 2), R23, True)],
    ),
    "cholesky_inverse": (cholesky_inverse, "L L^H X = 1", [call(R3), call(R23, True)]),
    "linalg.tensorsolve": (
        tensorsolve,
        "A X = B",
        [call(Regular((6, 6)), t(6)), call(t(2, 3, 6, low=-1, high=1), t(2, 3))],
    ),
    "linalg.tensorinv": (tensorinv, "A X = 1", [call(t(2, 2, 4, low=-1, high=1))]),
}


DETERMINANTS: dict[str, tuple[Callable, str, list]] = {
    "det linalg.det": (det, "y' = y tr(A^-1 A')", [call(R3), call(R23), call(R4), call(t(2, 2))]),
    "slogdet": (slogdet, "y' = tr(A^-1 A')", [call(R3), call(R23)]),
    "linalg.slogdet": (slogdet, "y' = tr(A^-1 A')", [call(R23)]),
    "logdet": (logdet, "y' = tr(A^-1 A')", [call(R3), call(R23)]),
}


FACTORS: dict[str, tuple[Callable, str, list]] = {
    "linalg.cholesky": (cholesky, "L L^H = A", [call(D3), call(D23), call(D3, upper=True)]),
    "linalg.cholesky_ex": (cholesky, "L L^H = A", [call(D23)]),
    "linalg.lu": (lu, "P L U = A", [call(R3), call(R23), call(TALL), call(WIDE)]),
    "linalg.lu_factor": (lu_factor, "P L U = A", [call(R3), call(R23), call(TALL), call(WIDE)]),
    "functional.lu Tensor.lu": (lu_factor, "P L U = A", [call(R3), call(R23, get_infos=True)]),
    "linalg.lu_factor_ex": (lu_factor, "P L U = A", [call(R23)]),
    "linalg.qr": (
        linalg_qr,
        "Q R = A",
        [call(R3), call(TALLS), call(WIDE), call(R23, mode="complete")],
    ),
    "geqrf": (geqrf, "Q R = A", [call(TALL), call(WIDE), call(R23)]),
    "linalg.ldl_factor": (ldl_factor, "L D L^H = A", [call(D3), call(D23)]),
    "linalg.ldl_factor_ex": (ldl_factor, "L D L^H = A", [call(D23, hermitian=True)]),
    "linalg.eigh": (eigh, "A V = V w", [call(D3), call(D23), call(D3, "U")]),
    "linalg.eigvalsh": (eigh, "A V = V w", [call(D3), call(D23)]),
    # real eigenvalues: where they are complex, the tests' weights see the phases of the vectors,
    # which torch's gradient refuses
    "linalg.eig": (eig, "A V = V w", [call(R3), call(R23)]),
    "linalg.eigvals": (eig, "A V = V w", [call(R3), call(R23)]),
    "linalg.svd": (
        linalg_svd,
        "A V = U S",
        [call(R3), call(TALLS, full_matrices=False), call(WIDE, False)],
    ),
    "svd": (svd, "A V = U S", [call(TALLS), call(WIDE)]),
    "lobpcg": (lobpcg, "A X = B X E", []),
    "linalg.svdvals": (svdvals, "A V = U S", [call(R23), call(TALLS), call(WIDE)]),
}


BUILT: dict[str, tuple[Callable, str, list]] = {
    "linalg.lu_solve": (
        linalg_lu_solve,
        "torch code",
        [
            call(R3, PIVOTS, t(3, 2)),
            call(R3, PIVOTS, t(3, 2), adjoint=True),
            call(R3, PIVOTS, t(2, 3), left=False),
        ],
    ),
    "linalg.ldl_solve": (
        ldl_solve,
        "torch code",
        [call(R23, torch.tensor([[1, 2, 3]] * 2, dtype=torch.int32), t(2, 3, 2))],
    ),
    "lu_solve": (lu_solve, "torch code", [call(t(3, 2), R3, PIVOTS)]),
    "lu_unpack": (
        lu_unpack,
        "torch code",
        [call(R3, PIVOTS), call(TALL, PIVOTS_OF_TWO), call(WIDE, PIVOTS_OF_TWO)],
    ),
    "ormqr": (
        ormqr,
        "torch code",
        [call(t(4, 3), SCALES, t(4, 2)), call(t(4, 3), SCALES, t(2, 4), False, True)],
    ),
    "linalg.pinv": (pinv, "torch code", [call(R3), call(TALLS), call(WIDE)]),
    "pinverse": (pinv, "torch code", [call(TALL)]),
    "linalg.lstsq": (
        lstsq,
        "torch code",
        [call(TALLS, t(2, 4, 2)), call(WIDE, t(2, 3))],
    ),
    "functional.svd_lowrank": (svd_lowrank, "torch code", []),
    "functional.pca_lowrank": (pca_lowrank, "torch code", []),
    "linalg.cond": (
        cond,
        "torch code",
        [call(R23), call(R3, -2), call(R3, "fro"), call(R3, "nuc"), call(R3, 1)],
    ),
    "linalg.vander": (vander, "torch code", [call(t(2, 3)), call(t(3), N=5)]),
    "linalg.householder_product orgqr": (
        householder_product,
        "torch code",
        [call(t(4, 3), SCALES), call(t(2, 4, 3), t(2, 2, low=1.0, high=1.4))],
    ),
    "matrix_exp linalg.matrix_exp": (matrix_exp, "torch code", [call(R3), call(t(2, 3, 3))]),
}


for kind, table in (
    ("equation", SYSTEMS),
    ("equation", DETERMINANTS),
    ("equation", FACTORS),
    ("composite", BUILT),
):
    for names, (body, says, samples) in table.items():
        add_rule(names, kind, says, rule(body), samples)


# from 2.14 on torch has them in name only: they raise
for names, body, says, samples in (
    ("cholesky", cholesky, "L L^H = A", [call(D3), call(D23, True)]),
    ("qr", qr, "Q R = A", [call(TALL), call(WIDE)]),
):
    add_rule(names, "equation", says, rule(body), samples, until="2.14")


for names, body, says, samples in (
    ("linalg.matrix_sqrth", matrix_root, "X X = A", [call(D3), call(D23)]),
    ("linalg.polar", polar, "U H = A, U^H U = 1", [call(R3), call(TALLS)]),
):
    add_rule(names, "equation", says, rule(body), samples, since="2.14")
