"""Products of tensors: the form says which; the function itself forms each term.

The leading axis of directions is a batch axis for matrix products, so they stay one large GEMM.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..engine.directions import Compressed, Operator, Owned
from ..engine.kinds import composite, in_place
from ..engine.lifts import by_vmap
from ..engine.multilinear import multilinear
from ..engine.private import is_transformed
from ..engine.registry import add_rule
from ..engine.samples import call, t
from ..engine.tensor import TaylorTensor, innermost, wrap

# --- matrix products ------------------------------------------------------------------------------


def _is_sparse(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and x.layout is not torch.strided


def _linear_lift(func: Callable, args: list, kwargs: dict, leads: set) -> Any:
    if leads != {0}:
        return by_vmap(func, args, kwargs, leads)
    if _is_sparse(args[1]):
        x = args[0]
        return func(x.reshape(-1, x.shape[-1]), *args[1:], **kwargs).reshape(*x.shape[:-1], -1)
    return func(*args, **kwargs)


def _matmul_lift(func: Callable, args: list, kwargs: dict, leads: set) -> Any:
    """Batch axes broadcast, once both factors are at least matrices of equal rank."""
    a, b = args
    matrices = min(a.ndim - (0 in leads), b.ndim - (1 in leads)) >= 2
    if matrices and _is_sparse(a):
        return _beside(-1, lambda x: func(a, x, **kwargs), b)
    if matrices and _is_sparse(b):
        return _beside(-2, lambda x: func(x, b, **kwargs), a)
    if not matrices:
        return by_vmap(func, args, kwargs, leads)
    rank = max(a.ndim - (0 in leads), b.ndim - (1 in leads)) + 1
    a, b = (
        x.reshape(x.shape[:1] + (1,) * (rank - x.ndim) + x.shape[1:]) if i in leads else x
        for i, x in enumerate((a, b))
    )
    return torch.matmul(a, b)


def _beside(axis: int, product: Callable, x: Any) -> Any:
    """The product of a matrix with all directions side by side along an axis.

    A sparse matrix has no batch axes that broadcast, and needs none.
    """
    count, size = x.shape[0], x.shape[axis]
    lead = x.ndim + axis - 1
    x = x.movedim(0, lead)
    y = product(x.reshape(*x.shape[:lead], count * size, *x.shape[lead + 2 :]))
    return y.reshape(*y.shape[:lead], count, size, *y.shape[lead + 1 :]).movedim(lead, 0)


def _linear_needs(i: int, ndim: int) -> tuple[int, ...]:
    return (-1,) if i == 0 else tuple(range(ndim))


def _matmul_needs(i: int, ndim: int) -> tuple[int, ...]:
    if ndim < 2:
        return tuple(range(ndim))
    return (-1,) if i == 0 else (-2,)


# its second row is empty
SPARSE = torch.tensor(
    [[0.0, 2.0, 0.0], [0.0, 0.0, 0.0], [0.5, 0.0, -1.0], [1.0, 0.3, 0.0]], dtype=torch.float64
).to_sparse()


def _reduced(rule: Callable) -> Callable:
    """``torch.sparse.mm`` whose sums over the entries of a row may be means or extremes."""

    def evaluate(func: Callable, args: tuple, kwargs: dict) -> Any:
        def product(sparse: Any, dense: Any, reduce: str = "sum") -> Any:
            if reduce == "sum":
                return rule(func, (sparse, dense), {})
            best = func(sparse, innermost(dense), reduce)
            if reduce != "mean":
                return _extreme(sparse, dense, best)
            entries = sparse.crow_indices().diff().clamp(min=1).unsqueeze(1)
            return rule(func, (sparse, dense), {}) / entries

        return product(*args, **kwargs)

    return evaluate


def _extreme(sparse: Any, dense: Any, best: torch.Tensor) -> Any:
    """The term that ``c_0`` picks; among equal ones the first, whose gradient torch follows."""
    (rows, columns), values = best.shape, sparse.values()
    row = torch.arange(rows, device=best.device)
    row = torch.repeat_interleave(row, sparse.crow_indices().diff(), output_size=values.numel())
    terms = torch.unsqueeze(values, 1) * torch.index_select(dense, 0, sparse.col_indices())
    count = row.numel()
    number = torch.arange(count, device=best.device).unsqueeze(1).expand(count, columns)
    number = torch.where(innermost(terms) == best[row], number, count)
    first = torch.full((rows, columns), count, device=best.device)
    first = first.scatter_reduce(0, row.unsqueeze(1).expand(count, columns), number, "amin")
    # a row without entries has no term: torch gives it 0
    terms = torch.cat([terms, terms.new_zeros((1, columns))])
    return torch.gather(terms, 0, first)


def _compressed(
    structure: Operator, rows: Any, shape: Sequence[int]
) -> tuple[Owned, torch.Tensor] | None:
    """The rows ``(R, 1, ..., 1, H)`` of a linear layer as a series owned by its H outputs.

    None where that is not worth while, or the rows differ from sample to sample.
    """
    if isinstance(rows, TaylorTensor) or rows.numel() != rows.shape[0] * rows.shape[-1]:
        return None
    count, width = rows.shape[0], rows.shape[-1]
    basis = rows.reshape(count, width)
    weights = structure.weights
    known = basis.requires_grad or (isinstance(weights, torch.Tensor) and weights.requires_grad)
    plain = isinstance(weights, (int, float))
    # a matrix of weights makes every later product twice as dear
    if count <= width or ((known or not plain) and count < 2 * width):
        return None
    block = rows.new_ones((1,) * (len(shape) + 1))
    # the factorisation pays where later products are larger than the rows, and where the directions
    # that it saves, sample by sample, outweigh it
    small = count <= math.prod(shape)
    pays = (count - width) * (math.prod(shape) // width) >= 2 * count
    if not pays and count < 2 * width:
        return None
    transformed = is_transformed(basis)
    if plain and small and pays and not known and not transformed:
        orthonormal, factor = torch.linalg.qr(basis)
        return Owned(Compressed(structure, orthonormal, weights), -1, width, 1, factor), block
    if plain:
        gram = basis.T @ basis * weights
    elif weights.ndim == 1:
        gram = basis.T @ (weights[:, None] * basis)
    else:
        gram = basis.T @ weights @ basis
    return Owned(Compressed(structure, basis, gram), -1, width, 1), block


def _linear_through(func: Callable, x: Any, weight: Any, bias: Any = None) -> Any:
    """A linear layer on the directions of a Laplacian: fewer come out of a narrow one."""
    structure = x._structure
    if not isinstance(structure, (Owned, Operator)) or x.order != 2 or x._blocks[1] is None:
        return None
    if weight.ndim != 2 or _is_sparse(weight):
        return None
    value, first, second = x._blocks
    y0 = func(value, weight, bias)

    def through(block: Any) -> Any:
        wanted = (*block.shape[:-1], value.shape[-1])
        return torch.nn.functional.linear(block.expand(wanted), weight)

    second = None if second is None else through(second)
    if not isinstance(structure, Owned):
        base, rows = structure, through(first)
    elif structure.axis == -1:
        base, rows = structure.base, structure.multiplied(first, weight)
    else:
        return wrap((y0, through(first), second), structure, x._level)
    fewer = _compressed(base, rows, y0.shape)
    if fewer is None:
        return wrap((y0, rows, second), base, x._level)
    narrow, rows = fewer
    return wrap((y0, rows, second), narrow, x._level)


def _matmul_through(func: Callable, x: Any, other: Any) -> Any:
    if other.ndim != 2 or x.ndim < 2:
        return None
    return _linear_through(lambda x, weight, _: func(x, weight.mT), x, other.mT)


THROUGH: dict[str, Callable] = {
    "linear": _linear_through,
    "mm": _matmul_through,
    "matmul": _matmul_through,
}

FORMS: dict[str, tuple[str, Any, Any, list]] = {
    "linear": (
        "input, weight, bias? : input*weight + bias",
        _linear_lift,
        _linear_needs,
        [call(t(2, 3), t(4, 3), t(4)), call(t(5, 2, 3), t(4, 3)), call(t(3), t(4, 3), t(4))],
    ),
    "matmul __matmul__ linalg.matmul": (
        "input, other : input*other",
        _matmul_lift,
        _matmul_needs,
        [
            call(t(2, 3), t(3, 4)),
            call(t(5, 2, 3), t(3, 4)),
            call(t(3), t(3)),
            call(t(2, 3), t(3)),
            call(t(3), t(5, 3, 2)),
            call(t(4, 1, 2, 3), t(5, 3, 2)),
        ],
    ),
    "mm": ("input, mat2 : input*mat2", _matmul_lift, _matmul_needs, [call(t(2, 3), t(3, 4))]),
    "sparse.mm": (
        "sparse, dense : sparse*dense",
        _matmul_lift,
        _matmul_needs,
        [call(SPARSE, t(3, 2)), call(t(2, 4), SPARSE)],
    ),
    "mv": ("input, vec : input*vec", by_vmap, False, [call(t(2, 3), t(3))]),
    "bmm": ("input, mat2 : input*mat2", _matmul_lift, False, [call(t(5, 2, 3), t(5, 3, 4))]),
    "dot": ("input, tensor : input*tensor", by_vmap, False, [call(t(3), t(3))]),
    "inner": ("input, other : input*other", by_vmap, False, [call(t(2, 3), t(4, 3))]),
    "outer ger": ("input, vec2 : input*vec2", by_vmap, False, [call(t(3), t(4))]),
    "kron": ("input, other : input*other", by_vmap, False, [call(t(2, 3), t(2, 2))]),
    "bilinear": (
        "input1, input2, weight, bias? : input1*input2*weight + bias",
        by_vmap,
        False,
        [call(t(2, 3), t(2, 4), t(5, 3, 4), t(5))],
    ),
    "conv1d": (
        "input, weight, bias? : input*weight + bias",
        by_vmap,
        False,
        [call(t(2, 2, 6), t(3, 2, 3), t(3)), call(t(2, 4, 6), t(4, 2, 3), None, 2, 1, 1, 2)],
    ),
    "conv2d": (
        "input, weight, bias? : input*weight + bias",
        by_vmap,
        False,
        [call(t(1, 2, 4, 5), t(3, 2, 3, 3), t(3)), call(t(2, 4, 5), t(3, 2, 3, 3), padding=1)],
    ),
    "conv3d": (
        "input, weight, bias? : input*weight + bias",
        by_vmap,
        False,
        [call(t(1, 2, 3, 3, 3), t(2, 2, 2, 2, 2), t(2))],
    ),
    "conv_transpose1d": (
        "input, weight, bias? : input*weight + bias",
        by_vmap,
        False,
        [call(t(2, 2, 5), t(2, 3, 3), t(3))],
    ),
    "conv_transpose2d": (
        "input, weight, bias? : input*weight + bias",
        by_vmap,
        False,
        [call(t(1, 2, 4, 4), t(2, 3, 3, 3), t(3), 2)],
    ),
    "conv_transpose3d": (
        "input, weight, bias? : input*weight + bias",
        by_vmap,
        False,
        [call(t(1, 2, 2, 2, 2), t(2, 2, 2, 2, 2))],
    ),
}
for names, (form, lift, shared, samples) in FORMS.items():
    rule = multilinear(form, lift, shared=shared, through=THROUGH.get(names.split()[0]))
    if names == "sparse.mm":
        rule = _reduced(rule)
    add_rule(names, "multilinear", form.split(":")[1].strip(), rule, samples)


# --- built from them ------------------------------------------------------------------------------


def _added(input: Any, product: Any, beta: float, alpha: float) -> Any:
    # torch ignores the input, NaN included, where beta is 0
    scaled = product if alpha == 1 else alpha * product
    if beta == 0:
        return scaled
    return (input if beta == 1 else beta * input) + scaled


def _addmm(input: Any, mat1: Any, mat2: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    return _added(input, torch.matmul(mat1, mat2), beta, alpha)


def _reversed_matmul(input: Any, other: Any) -> Any:
    return torch.matmul(other, input)


def _addbmm(input: Any, batch1: Any, batch2: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    return _added(input, torch.sum(torch.matmul(batch1, batch2), 0), beta, alpha)


def _addr(input: Any, vec1: Any, vec2: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    return _added(input, torch.unsqueeze(vec1, 1) * vec2, beta, alpha)


def _addcmul(input: Any, tensor1: Any, tensor2: Any, *, value: float = 1) -> Any:
    return input + (value * tensor1 if value != 1 else tensor1) * tensor2


def _addcdiv(input: Any, tensor1: Any, tensor2: Any, *, value: float = 1) -> Any:
    return input + (value * tensor1 if value != 1 else tensor1) / tensor2


def _lerp(input: Any, end: Any, weight: Any) -> Any:
    return input + weight * (end - input)


def _vdot(input: Any, other: Any) -> Any:
    return torch.dot(torch.conj(input) if input.is_complex() else input, other)


def _vecdot(x: Any, y: Any, *, dim: int = -1) -> Any:
    return torch.sum((torch.conj(x) if x.is_complex() else x) * y, dim)


def _einsum(equation: str, *operands: Any) -> Any:
    """Pairwise, from the left; a pair of operands is a product of two factors."""
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    equation = equation.replace(" ", "")
    inputs, arrow, output = equation.partition("->")
    terms = inputs.split(",")
    if len(terms) != len(operands):
        raise ValueError(f"torch.einsum: {equation!r} does not fit {len(operands)} operands")
    if not arrow:
        letters = sorted({c for c in inputs if c.isalpha() and inputs.count(c) == 1})
        output = ("..." if "..." in inputs else "") + "".join(letters)
    result, term = operands[0], terms[0]
    if len(operands) == 1:
        return _contract_one(f"{term}->{output}", result)
    for n, (other, other_term) in enumerate(zip(operands[1:], terms[1:], strict=True), 1):
        kept = output + "".join(terms[n + 1 :])
        letters = [c for c in dict.fromkeys(term + other_term) if c.isalpha() and c in kept]
        dots = "..." if "..." in term + other_term else ""
        target = output if n == len(operands) - 1 else dots + "".join(letters)
        result, term = _contract_two(f"{term},{other_term}->{target}", result, other), target
    return result


def _contract_one(equation: str, x: Any) -> Any:
    return _EINSUM_ONE(lambda x: torch.einsum(equation, x), (x,), {})


def _contract_two(equation: str, x: Any, y: Any) -> Any:
    if not isinstance(x, TaylorTensor) and not isinstance(y, TaylorTensor):
        return torch.einsum(equation, x, y)
    return _EINSUM_TWO(lambda x, y: torch.einsum(equation, x, y), (x, y), {})


_EINSUM_ONE = multilinear("input : input")
_EINSUM_TWO = multilinear("input, other : input*other")


def _tensordot(a: Any, b: Any, dims: Any = 2, out: Any = None) -> Any:
    if isinstance(dims, torch.Tensor):
        dims = dims.tolist()
    if isinstance(dims, int):
        dims = (range(a.ndim - dims, a.ndim), range(dims))
    left, right = ([axis] if isinstance(axis, int) else list(axis) for axis in dims)
    left, right = [i % a.ndim for i in left], [i % b.ndim for i in right]
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    of_a = list(letters[: a.ndim])
    of_b = list(letters[a.ndim : a.ndim + b.ndim])
    for i, j in zip(left, right, strict=True):
        of_b[j] = of_a[i]
    free = [c for i, c in enumerate(of_a) if i not in left]
    free += [c for j, c in enumerate(of_b) if j not in right]
    return torch.einsum(f"{''.join(of_a)},{''.join(of_b)}->{''.join(free)}", a, b)


def _chain_matmul(*matrices: Any) -> Any:
    listed = matrices[0] if isinstance(matrices[0], (list, tuple)) else matrices
    result = listed[0]
    for matrix in listed[1:]:
        result = torch.matmul(result, matrix)
    return result


def _matrix_power(input: Any, n: int) -> Any:
    if n < 0:
        input, n = torch.linalg.inv(input), -n
    result = None
    while n:
        if n & 1:
            result = input if result is None else torch.matmul(result, input)
        n >>= 1
        if n:
            input = torch.matmul(input, input)
    if result is None:
        size = input.shape[-1]
        eye = torch.eye(size, dtype=input.dtype, device=input.device)
        return torch.zeros_like(input) + eye
    return result


M = t(2, 3)
TABLE: dict[str, tuple[Callable, list]] = {
    "__rmatmul__": (_reversed_matmul, [call(t(3, 4), torch.ones(2, 3, dtype=torch.float64))]),
    "addmm": (_addmm, [call(t(2, 4), M, t(3, 4)), call(t(4), M, t(3, 4), beta=0.5, alpha=2)]),
    "sparse.addmm": (_addmm, [call(t(4, 2), SPARSE, t(3, 2), beta=0.5, alpha=2)]),
    "addmv": (_addmm, [call(t(2), M, t(3))]),
    "addbmm": (_addbmm, [call(t(2, 4), t(5, 2, 3), t(5, 3, 4))]),
    "baddbmm": (_addmm, [call(t(5, 2, 4), t(5, 2, 3), t(5, 3, 4), beta=0.5)]),
    "addr": (_addr, [call(t(2, 3), t(2), t(3))]),
    "addcmul": (_addcmul, [call(t(2, 3), t(3), t(2, 3), value=2)]),
    "addcdiv": (_addcdiv, [call(t(2, 3), t(3), t(2, 3), value=2)]),
    "lerp": (_lerp, [call(t(2, 3), t(2, 3), 0.3), call(t(2, 3), t(2, 3), t(3))]),
    "vdot": (_vdot, [call(t(3), t(3))]),
    "linalg.vecdot": (_vecdot, [call(t(2, 3), t(2, 3))]),
    "einsum": (
        _einsum,
        [
            call("ij,jk->ik", t(2, 3), t(3, 4)),
            call("bij,bjk", t(5, 2, 3), t(5, 3, 4)),
            call("ii->i", t(3, 3)),
            call("i,ij,j->", t(3), t(3, 4), t(4)),
            call("...i,ij->...j", t(2, 2, 3), t(3, 4)),
        ],
    ),
    "tensordot": (_tensordot, [call(t(2, 3, 4), t(3, 4, 2)), call(t(2, 3), t(4, 3), ([1], [1]))]),
    "chain_matmul": (_chain_matmul, [call(t(2, 3), t(3, 4), t(4, 2))]),
    "linalg.multi_dot": (_chain_matmul, [call([t(2, 3), t(3, 4), t(4, 2)])]),
    "matrix_power linalg.matrix_power": (_matrix_power, [call(t(3, 3), 3), call(t(2, 3, 3), 0)]),
}
for names, (body, samples) in TABLE.items():
    rule = composite(body)
    add_rule(names, "composite", "torch code", rule, samples, in_place=in_place(rule))
