"""taylortorch: Taylor-mode forward automatic differentiation for PyTorch.

Wrap the inputs of any model as ``TaylorTensor``, run it, and read all input derivatives, at any
order, from one forward pass; train on them with one ordinary ``backward()``.
"""

from . import rules as _rules
from .extend import register_rule
from .registry import UnsupportedFunction, supported
from .tensor import TaylorTensor
from .variables import d, variables

__version__ = "0.1.0"

__all__ = [
    "TaylorTensor",
    "UnsupportedFunction",
    "__version__",
    "d",
    "register_rule",
    "supported",
    "variables",
]

del _rules
