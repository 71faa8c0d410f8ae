"""Functions that depend on ``c_0`` only.

Comparisons and ``bool()`` follow the value, so control flow in a model does what it does on plain
tensors. Piecewise constant functions (floor, sign ...) have a series whose derivatives are zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..engine.frames import frame_of, join
from ..engine.kinds import attribute, constant, constant_of_first, in_place, value, value_of_first
from ..engine.registry import add_rule
from ..engine.samples import call, t
from ..engine.tensor import flatten
from ..engine.writing import store

ATTRIBUTES = """
.shape .dtype .device .ndim .layout .itemsize .nbytes .name .is_cpu .is_cuda .is_ipu .is_maia
.is_meta .is_mkldnn .is_mps .is_mtia .is_nested .is_quantized .is_sparse .is_sparse_csr .is_vulkan
.is_xla .is_xpu
size dim ndimension numel nelement stride storage_offset element_size is_contiguous
is_floating_point is_complex is_signed get_device is_conj is_neg is_inference
is_pinned is_coalesced dense_dim sparse_dim dim_order is_shared is_distributed
.grad_dtype .output_nr .volatile
"""
for name in ATTRIBUTES.split():
    add_rule(name, "value", "of c_0", attribute)
add_rule(".names", "value", "of c_0", attribute, until="2.13")
add_rule("._has_grad_dtype_override", "value", "of c_0", attribute, since="2.15")

VALUES = {
    "eq __eq__": call(t(2, 3), t(2, 3)),
    "ne __ne__ not_equal": call(t(2, 3), t(2, 3)),
    "lt __lt__ less": call(t(2, 3), t(2, 3)),
    "le __le__ less_equal": call(t(2, 3), t(2, 3)),
    "gt __gt__ greater": call(t(2, 3), t(2, 3)),
    "ge __ge__ greater_equal": call(t(2, 3), t(2, 3)),
    "equal": call(t(2, 3), t(2, 3)),
    "allclose": call(t(2, 3), t(2, 3)),
    "isclose": call(t(2, 3), t(2, 3)),
    "isnan": call(t(2, 3)),
    "isinf": call(t(2, 3)),
    "isfinite": call(t(2, 3)),
    "isposinf": call(t(2, 3)),
    "isneginf": call(t(2, 3)),
    "isreal": call(t(2, 3)),
    "signbit": call(t(2, 3, low=-1, high=1)),
    "is_nonzero": call(t()),
    "__bool__ __nonzero__": call(t()),
    "all": call(t(2, 3)),
    "any": call(t(2, 3)),
    "logical_and": call(t(2, 3), t(2, 3)),
    "logical_or": call(t(2, 3), t(2, 3)),
    "logical_xor": call(t(2, 3), t(2, 3)),
    "logical_not": call(t(2, 3)),
    "argmax": call(t(2, 3), 1),
    "argmin": call(t(2, 3), 1),
    "argsort": call(t(2, 3), 1),
    "argwhere": call(t(2, 3)),
    "nonzero": call(t(2, 3)),
    "nonzero_static": call(t(2, 3), size=4),
    "count_nonzero": call(t(2, 3)),
    "hash_tensor": call(t(2, 3)),
    "searchsorted": call(torch.tensor([0.3, 0.5, 0.7], dtype=torch.float64), t(2, 3)),
    "bucketize": call(t(2, 3), torch.tensor([0.3, 0.5, 0.7], dtype=torch.float64)),
    "isin": call(t(2, 3), t(4)),
    "histc": call(t(6), 3),
    "is_same_size": call(t(2, 3), t(2, 3)),
    # whether an encoder may pack its padded batch; one of series it does not
    "_nested_tensor_from_mask_left_aligned": call(t(2, 3, 4), torch.ones(2, 3, dtype=torch.bool)),
    "multinomial": call(t(3), 2),
    "poisson": call(t(2, 3)),
    "binomial": call(t(2, 3), t(2, 3)),
    "result_type": call(t(2, 3), t(3)),
    "int": call(t(2, 3)),
    "long": call(t(2, 3)),
    "short": call(t(2, 3)),
    "char": call(t(2, 3)),
    "byte": call(t(2, 3)),
    "bool": call(t(2, 3)),
    "__contains__": call(t(2, 3), 0.5),
}


TRUTHS = {"eq", "ne", "lt", "le", "gt", "ge"}
TRUTHS |= {f"logical_{name}" for name in ("and", "or", "xor", "not")}


def _truth(func: Callable, args: tuple, kwargs: dict) -> Any:
    """A comparison written into a tensor: a constant series of zeros and ones."""
    result = value(func, args, kwargs).to(args[0].dtype)
    return join(func, flatten((args, kwargs), [])).constant(result)


for names, sample in VALUES.items():
    truth = names.split()[0] in TRUTHS
    add_rule(
        names,
        "value",
        "of c_0",
        value,
        [sample],
        in_place=in_place(_truth) if truth else None,
    )

LIKE = {
    "rand_like": call(t(2, 3)),
    "randn_like": call(t(2, 3)),
    "randint_like": call(t(2, 3), 5),
    "new_tensor": call(t(2, 3), [1.0, 2.0]),
}
for names, sample in LIKE.items():
    add_rule(names, "value", "of c_0", value_of_first, [sample])

CONSTANTS = {
    "floor": call(t(2, 3, low=-2, high=2)),
    "ceil": call(t(2, 3, low=-2, high=2)),
    "trunc fix": call(t(2, 3, low=-2, high=2)),
    "round special.round": call(t(2, 3, low=-2, high=2)),
    "sign": call(t(2, 3, low=-2, high=2)),
    "heaviside": call(t(2, 3, low=-2, high=2), t(3)),
    "floor_divide __floordiv__": call(t(2, 3, low=-4, high=4), t(3)),
    "__rfloordiv__": call(t(2, 3), 3.0),
}
for names, sample in CONSTANTS.items():
    add_rule(
        names, "constant", "piecewise constant", constant, [sample], in_place=in_place(constant)
    )


def _redrawn(func: Callable, args: tuple, kwargs: dict) -> Any:
    """Random numbers written into a tensor: a constant series of them."""
    x = args[0]
    drawn = func(x.value.detach().clone(), *args[1:], **kwargs)
    return store(func, x, frame_of(x).constant(drawn))


RANDOM = "normal_ uniform_ bernoulli_ cauchy_ exponential_ geometric_ log_normal_ random_"
for name in RANDOM.split():
    add_rule(f"Tensor.{name}", "constant", "a constant series", _redrawn)
add_rule("bernoulli", "constant", "piecewise constant", constant, [call(t(2, 3))])

# constant series rather than plain tensors, so that a model can write a series into them
FILLED = {
    "zeros_like": call(t(2, 3)),
    "ones_like": call(t(2, 3)),
    "full_like": call(t(2, 3), 1.5),
    "empty_like": call(t(2, 3)),
    "new_zeros": call(t(2, 3), (2,)),
    "new_ones": call(t(2, 3), (2,)),
    "new_full": call(t(2, 3), (2,), 1.5),
    "new_empty": call(t(2, 3), (2,)),
    "new_empty_strided": call(t(2, 3), (2,), (1,)),
    "new": call(t(2, 3), [1.0, 2.0]),
}
for names, sample in FILLED.items():
    add_rule(names, "constant", "a constant series", constant_of_first, [sample])
