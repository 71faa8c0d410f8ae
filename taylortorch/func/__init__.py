"""Function transforms, named and shaped like those of ``torch.func``.

A transform takes a function and returns one; the result takes the same arguments. ``argnums`` says
which positional argument to differentiate with respect to, ``event_dims`` how many of its trailing
axes are the coordinates of one sample, the leading ones being the batch: with the default, 1,
``(D,)`` is one point and ``(N, D)`` a batch of them, so batched models need no ``vmap``. Outputs
are tensors that begin with the batch shape, or nested tuples, lists and dicts of such. With
``return_value=True`` the result is ``(derivative, f(x))``, at no further cost.

Every transform opens a level of its own, so transforms nest, in each other and in series of
``TaylorTensor`` and ``variables``. Results are plain tensors, differentiable by ordinary autograd
with respect to parameters and to ``x``.
"""

from . import stochastic
from .laplacians import biharmonic, laplacian, weighted_laplacian
from .linear import linear_operator, mixed_partial
from .transforms import derivatives, hessian, hessian_diagonal, jacfwd, jet, jvp

__all__ = [
    "biharmonic",
    "derivatives",
    "hessian",
    "hessian_diagonal",
    "jacfwd",
    "jet",
    "jvp",
    "laplacian",
    "linear_operator",
    "mixed_partial",
    "stochastic",
    "weighted_laplacian",
]
