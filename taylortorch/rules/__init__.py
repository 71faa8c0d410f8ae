"""The tables: which kind each torch function is of.

Read in this order; every file is mostly data.

* ``values``: functions of ``c_0`` alone (shape, comparisons, argmax, floor ...)
* ``arithmetic``: + - * / ** and their operators, by hand
* ``elementwise``: exp, tanh, log, erf ... (``ode`` and ``slope`` rows), sin and cos
* ``selections``: relu, abs, clamp, max, sort ... (``c_0`` picks the piece)
* ``shapes``: reshape, transpose, gather, roll, pad ... (linear maps of the entries)
* ``indexing``: where, scatter, indexing and assignment, by index or whole
* ``joining``: cat, stack, meshgrid ...
* ``reductions``: sum, mean, cumsum, prod, var, norm, logsumexp
* ``products``: matmul, linear, einsum, conv ...
* ``linalg``: solve, inv, det, cholesky, qr, eigh, svd ... (equations solved degree by degree)
* ``composites``: softmax, layer_norm, dropout ... (torch code on TaylorTensors)
* ``foreach``: torch.foreach, each function at every position of its lists
* ``fourier``: torch.fft, stft and istft
* ``recurrent``: RNN, LSTM, GRU and their cells, unrolled
* ``bessel``: Bessel functions
* ``special``: gamma, erf and their kin, orthogonal polynomials
* ``statistics``: integrals, quantiles, cov, scatter_reduce ...
* ``spatial``: pooling, interpolation, grid_sample, unfold, embedding, distances
* ``losses``: every loss of ``torch.nn.functional``
* ``autocast``: what ``torch.autocast`` does to a function as a whole
* ``aten``: operators behind torch's functions, as exported programs call them
* ``protocol``: what Python and autograd ask of a tensor (repr, len, copy, pickle, backward)
* ``refused``: functions that would lose derivatives, with the reason
"""

from . import (
    arithmetic,
    aten,
    autocast,
    bessel,
    composites,
    elementwise,
    foreach,
    fourier,
    indexing,
    joining,
    linalg,
    losses,
    products,
    protocol,
    recurrent,
    reductions,
    refused,
    selections,
    shapes,
    spatial,
    special,
    statistics,
    values,
)

autocast.follow_autocast()

__all__ = [
    "arithmetic",
    "aten",
    "autocast",
    "bessel",
    "composites",
    "elementwise",
    "foreach",
    "fourier",
    "indexing",
    "joining",
    "linalg",
    "losses",
    "products",
    "protocol",
    "recurrent",
    "reductions",
    "refused",
    "selections",
    "shapes",
    "spatial",
    "special",
    "statistics",
    "values",
]
