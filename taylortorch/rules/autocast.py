"""What ``torch.autocast`` does to a function as a whole, before its rule calls other functions.

torch casts the arguments of some functions and runs them without autocast. A rule that is written
in other functions does the same, or they would be cast one by one: a loss of bfloat16 predictions
would stay in bfloat16, and the recurrences of a matrix inverse would be multiplied in it.

Source: https://docs.pytorch.org/docs/2.13/amp.html, "Autocast Op Reference".
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import torch

from ..engine.registry import (
    ROWS,
    ROWS_OF_OTHERS,
    RULES,
    TRACED,
    Evaluator,
    identity,
    resolve,
)
from ..engine.tensor import flatten, innermost, run

LOSSES = """
binary_cross_entropy_with_logits cosine_embedding_loss hinge_embedding_loss huber_loss kl_div
l1_loss margin_ranking_loss mse_loss multi_margin_loss multilabel_margin_loss nll_loss nll_loss2d
nll_loss_nd poisson_nll_loss smooth_l1_loss soft_margin_loss triplet_margin_loss
"""
SINGLE = {
    "cpu": LOSSES
    + """
    _C._nn.adaptive_max_pool3d binary_cross_entropy cdist cholesky cholesky_inverse
    cholesky_solve cross_entropy_loss ctc_loss _C._nn.fractional_max_pool2d
    _C._nn.fractional_max_pool3d functional.lu geqrf grid_sampler grid_sampler_2d
    grid_sampler_3d inverse linalg.cholesky linalg.cholesky_ex linalg.cond linalg.eig
    linalg.eigh linalg.eigvals linalg.eigvalsh linalg.householder_product linalg.inv
    linalg.inv_ex linalg.lstsq linalg.qr linalg.solve linalg.svd linalg.svdvals linalg.tensorinv
    linalg.tensorsolve lu_solve max_pool3d max_unpool2d max_unpool3d nanquantile orgqr ormqr
    pinverse torch.polar prod qr quantile reflection_pad1d reflection_pad2d replication_pad1d
    replication_pad2d replication_pad3d stft svd Tensor.lu triangular_solve
    """,
    "cuda": LOSSES
    + """
    cdist cosine_similarity cumprod dist group_norm layer_norm linalg.matrix_norm
    linalg.vector_norm log_softmax logsumexp native_layer_norm norm pdist prod renorm rms_norm
    softmax
    """,
}
REDUCED = {
    "cpu": "addbmm addmm baddbmm linalg.vecdot prelu scaled_dot_product_attention sparse.addmm",
    "cuda": """
    _convolution addbmm addmm addmv addr baddbmm chain_matmul convolution einsum gru_cell
    linalg.multi_dot linalg.vecdot lstm_cell prelu rnn_relu_cell rnn_tanh_cell
    scaled_dot_product_attention
    """,
}
# not cast, and computed in the precision of their arguments, as are all equations
EXACT = "_convolution convolution matrix_exp linalg.matrix_exp linalg.ldl_solve linalg.lu_solve"


def _single(device: str) -> torch.dtype:
    return torch.float32


def _its_own(device: str) -> None:
    return None


def _cast(tree: Any, dtype: torch.dtype) -> Any:
    if isinstance(tree, torch.Tensor):
        fits = tree.is_floating_point() and tree.dtype not in (dtype, torch.float64)
        return tree.to(dtype) if fits else tree
    if isinstance(tree, (list, tuple)):
        return type(tree)(_cast(item, dtype) for item in tree)
    return tree


Policies = dict[str, Callable[[str], torch.dtype | None]]
"""For each type of device on which autocast acts on a function: the dtype of its arguments."""


def _as_autocast(evaluate: Evaluator, policies: Policies) -> Evaluator:
    def cast_first(func: Callable, args: tuple, kwargs: dict) -> Any:
        active = [device for device in policies if torch.is_autocast_enabled(device)]
        if not active:
            return evaluate(func, args, kwargs)
        device = innermost(flatten((args, kwargs), [])[0]).device.type
        if device not in active:
            return evaluate(func, args, kwargs)
        dtype = policies[device](device)
        if dtype is not None:
            args = tuple(run(_cast, a, dtype) for a in args)
            kwargs = {name: run(_cast, a, dtype) for name, a in kwargs.items()}
        with torch.autocast(device, enabled=False):
            return evaluate(func, args, kwargs)

    return cast_first


def follow_autocast() -> None:
    """Let the rules of the functions named here do as torch does under ``torch.autocast``."""
    exact = [function for name in EXACT.split() for function in resolve(name)]
    exact += [function for row in ROWS if row.kind == "equation" for function in row.functions]
    policies: dict[Any, Policies] = {f: {"cpu": _its_own, "cuda": _its_own} for f in exact}
    absent = {name for row in ROWS_OF_OTHERS for name in row.name.split()}
    for table, dtype in ((SINGLE, _single), (REDUCED, torch.get_autocast_dtype)):
        for device, names in table.items():
            for name in names.split():
                for function in () if name in absent else resolve(name):
                    policies.setdefault(function, {})[device] = dtype
    for function, on_devices in policies.items():
        RULES[function] = evaluate = _as_autocast(RULES[function], on_devices)
        if isinstance(function, types.FunctionType):
            TRACED[identity(function)] = evaluate
