"""taylortorch: Taylor-mode forward automatic differentiation for PyTorch.

Wrap the inputs of any model as ``TaylorTensor``, run it, and read all input derivatives, at any
order, from one forward pass; train on them with one ordinary ``backward()``.
"""

from . import distributed, func, testing
from . import patches as _patches
from . import rules as _rules
from .engine.registry import UnsupportedFunction, supported
from .engine.tensor import TaylorTensor
from .extend import register_rule
from .integrate import TaylorSolution, odeint_taylor
from .operators.derivatives import (
    curl,
    d,
    div,
    grad,
    hessian,
    hvp,
    jacobian,
    laplacian,
    normal_derivative,
)
from .operators.variables import variables
from .polynomials import compose, invert, radius_of_convergence

__version__ = "0.1.0"

__all__ = [
    "TaylorSolution",
    "TaylorTensor",
    "UnsupportedFunction",
    "__version__",
    "compose",
    "curl",
    "d",
    "distributed",
    "div",
    "func",
    "grad",
    "hessian",
    "hvp",
    "invert",
    "jacobian",
    "laplacian",
    "normal_derivative",
    "odeint_taylor",
    "radius_of_convergence",
    "register_rule",
    "supported",
    "testing",
    "variables",
]

_patches.install()

del _patches, _rules
