"""Functions that no rule will ever serve as they are, with the reason and the way out."""

from __future__ import annotations

from ..registry import refuse

TABLE = {
    "data_ptr untyped_storage storage storage_type __dlpack__ __dlpack_device__ const_data_ptr": (
        "it has no storage of its own; use x.value, or x.coeffs for all coefficients"
    ),
    ".data ._cdata .__cuda_array_interface__": (
        "it would lose the coefficients; use x.detach() to drop them, x.value for the value"
    ),
    "set_ resize_ resize_as_ apply_ map_ map2_ share_memory_": (
        "it works on storage, and a series has none of its own"
    ),
    "register_hook register_post_accumulate_grad_hook retain_grad": (
        "gradients belong to its coefficients: call it on x.value or on x.coeffs[k]"
    ),
    "view_copy as_strided as_strided_ as_strided_scatter": (
        "it addresses memory, and the blocks of a series have strides of their own; use indexing, "
        "reshape or unfold"
    ),
    "matrix_rank linalg.matrix_rank": "a rank has no derivative; use x.value",
    "nextafter nextafter_": "it steps between floating-point numbers; use x.value",
    "quantize_per_tensor quantize_per_channel fake_quantize_per_tensor_affine": (
        "rounding loses the derivatives; use x.value"
    ),
    "to_sparse to_mkldnn": "a series is dense; use x.value",
}
for names, reason in TABLE.items():
    for name in names.split():
        try:
            refuse(name, reason)
        except (LookupError, AttributeError):
            continue
