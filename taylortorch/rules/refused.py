"""Functions that no rule will ever serve as they are, with the reason and the way out.

A name with ``*`` stands for every function and method that it matches.
"""

from __future__ import annotations

import fnmatch

import torch

from ..engine.registry import LEAKS, refuse

NAMED_AXES = (
    "Tensor._update_names Tensor.align_as Tensor.align_to Tensor.has_names Tensor.refine_names "
    "Tensor.rename Tensor.rename_"
)
TABLE = {
    "data_ptr untyped_storage storage storage_type __dlpack__ __dlpack_device__ "
    "Tensor.const_data_ptr": (
        "it has no storage of its own; use x.value, or x.coeffs for all coefficients. A module for "
        "torch.export returns x.value, or x.coeffs"
    ),
    ".data ._cdata .__cuda_array_interface__": (
        "it would lose the coefficients; use x.detach() to drop them, x.value for the value"
    ),
    "set_ resize_ resize_as_ apply_ map_ map2_ share_memory_ is_set_to slice_inverse "
    "_clear_non_serializable_cached_data": (
        "it works on storage, and a series has none of its own"
    ),
    "register_post_accumulate_grad_hook retain_grad record_stream": (
        "gradients and memory belong to its coefficients: call it on x.value or on x.coeffs[k]"
    ),
    "as_strided_": "it addresses memory in place; use x = x.as_strided(...)",
    "detach_": "without its series it is another tensor; use x = x.detach()",
    "__array_wrap__": "it would lose the coefficients; use x.value.numpy()",
    "__setstate__": "a series is rebuilt from its coefficients; use pickle or copy.deepcopy",
    "module_load": "a module's parameters are plain tensors; load x.value",
    "Tensor.index": "it binds first-class dimensions; use x[...]",
    "autocast": "it is a context and takes no tensor; use with torch.autocast(...)",
    "sym_* _sym_sqrt": "it computes with sizes, not with tensors; use float(x.value)",
    "torch.normal": (
        "what it draws has no derivative in torch; write mean + std * torch.randn_like(mean)"
    ),
    "matrix_rank linalg.matrix_rank": "a rank has no derivative; use x.value",
    "bitwise_* gcd gcd_ lcm lcm_ __and__ __iand__ __rand__ __or__ __ior__ __ror__ __xor__ __ixor__ "
    "__rxor__ __invert__ __lshift__ __ilshift__ __rlshift__ __rshift__ __irshift__ __rrshift__ "
    "unravel_index": (
        "it is for integers and booleans, and a series has floating-point entries; compare first, "
        "as in (x > 0) & mask"
    ),
    "bincount histogram histogramdd": (
        "it counts: its result is piecewise constant, and torch gives it no derivative; use "
        "x.value, or torch.index_add to add up weights that move"
    ),
    "quantize_per_* quantized_* fake_quantize_per_* fused_moving_avg_obs_fake_quant dequantize "
    "int_repr q_* Tensor.qscheme choose_qparams_optimized fbgemm_*": (
        "quantized tensors are rounded, which loses the derivatives; use x.value"
    ),
    "miopen_*": (
        "it is a routine of one GPU library; use torch.conv2d, torch.batch_norm or torch.lstm"
    ),
    "batch_norm_*": "it is a step of batch norm over several GPUs; use torch.batch_norm",
    "_nested_tensor_size _nested_tensor_strides _nested_tensor_storage_offsets": (
        "a series is no nested tensor; use x.shape or x.stride()"
    ),
    "_coalesced_ _dimI _dimV _indices _nnz _values _sparse_mask_projection _to_dense coalesce "
    "indices* values* ccol_indices* col_indices* crow_indices* row_indices* native_norm "
    "resize_as_sparse_ sparse_resize_ sparse_resize_and_clear_": (
        "it is for sparse tensors, and a series is dense; use x.value"
    ),
    NAMED_AXES: ("a series has no named axes; use x.permute(...), or name the axes of x.value"),
    "to_mkldnn": "a series is dense; use x.value",
    "to_sparse to_sparse_csr to_sparse_csc to_sparse_bsr to_sparse_bsc sparse_mask": (
        "a series is dense; use x.value where no derivative through it is needed. An entry that "
        "is zero in the value need not be zero in its derivatives"
    ),
    "smm hspmm sspaddmm": (
        "its result is sparse, and a series is dense; use torch.sparse.mm or torch.sparse.addmm, "
        "whose result is dense"
    ),
    "sparse.sampled_addmm": (
        "its result is sparse, and a series is dense; compute its entries alone, "
        "(mat1[rows] * mat2.mT[columns]).sum(-1), or mask the dense product"
    ),
    "sparse.spdiags": "its result is sparse, and a series is dense; use torch.diag_embed",
}


_SPARSE_VALUES = (
    "it was given as the values of a sparse tensor, and a series is dense: keep the places and "
    "the values apart, and sum the terms of a product with torch.index_add"
)


LEAKING = {
    "aten::_sparse_coo_tensor_with_dims_and_tensors": _SPARSE_VALUES,
    "aten::sparse_compressed_tensor": _SPARSE_VALUES,
    "aten::_local_scalar_dense": (
        "it was used as a plain number, as in torch.full(size, x), torch.arange(x) or alpha=x"
    ),
    "aten::detach": (
        "torch.tensor(x), a function that copies its argument, a checkpoint inside another one or "
        "a custom autograd.Function was called on it"
    ),
    "aten::lift_fresh": "torch.tensor(x) was called on it",
    "aten::view_as": (
        "a custom autograd.Function or a full backward hook returned it; hooks on the module's "
        "parameters work"
    ),
    "aten::alias": (
        "a custom autograd.Function or a full backward hook returned it; hooks on the module's "
        "parameters work"
    ),
}
LEAKS.update(LEAKING)


def _matching(name: str) -> list[str]:
    if "*" not in name:
        return [name]
    return fnmatch.filter({*dir(torch), *dir(torch.Tensor)}, name)


# the versions of torch that have a name, where not all do
SINCE = {"Tensor.const_data_ptr": "2.13"}
UNTIL = dict.fromkeys(NAMED_AXES.split(), "2.13")

for names, reason in TABLE.items():
    for pattern in names.split():
        for name in _matching(pattern):
            refuse(name, reason, SINCE.get(pattern), UNTIL.get(pattern))
