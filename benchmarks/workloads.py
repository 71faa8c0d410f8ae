"""What is measured: workloads, their sizes, and the contenders of each.

A workload lists its sizes as keyword arguments of the function that makes a ``Problem`` of them.
``compiled`` in a size names the steps at which torch contenders are also compiled: compiling takes
longer than measuring, so it is done at representative sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from . import derivatives as by
from . import models
from .device import Device
from .jitted import Jax
from .ways import FORWARD, PLAIN, STEPS, TRAINING, Cannot, Problem, Torch, Way, mean_squares

TAYLOR, TAYLOR_COMPILED = "Taylor", "Taylor compiled"
NESTED = "nested autograd"
Size = dict[str, Any]


@dataclass(frozen=True)
class Workload:
    """``sizes`` for the full run, ``tiny`` ones for ``--quick`` and the tests."""

    key: str
    title: str
    about: str
    make: Callable[..., Problem]
    sizes: Sequence[Size]
    tiny: Sequence[Size]

    def problem(self, size: Size, device: Device, dtype: torch.dtype = torch.float32) -> Problem:
        """The problem of this size, with the same parameters and points at every call."""
        torch.manual_seed(0)
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            with device.torch:
                return self.make(**size)
        finally:
            torch.set_default_dtype(before)


def both(name: str, make: Callable, compiled: Sequence[str]) -> dict[str, Way]:
    """A torch contender in eager mode, and compiled where anything is."""
    ways: dict[str, Way] = {name: Torch(make)}
    if compiled:
        ways[f"{name} compiled"] = Torch(make, compiled=True)
    return ways


# --- a, b, f: a line ----------------------------------------------------------------------------


def line(
    order: int,
    batch: int,
    width: int | None = None,
    name: str = "{model}, batch {batch:,}",
    compiled: Sequence[str] = (),
    compiled_peers: bool = False,
    loop: bool = False,
) -> Problem:
    """Order ``order`` of the layer (no width) or of a network with four hidden layers."""
    second = order == 2
    peers = compiled if compiled_peers else ()
    ways: dict[str, Way] = {
        **both(PLAIN, by.plain, peers),
        **both(TAYLOR, by.line_taylor(order), compiled),
        NESTED: Torch(by.line_nested(order)),
        **both("jvp(jvp)", by.line_jvp(order), peers),
        **({"vmap(jvp(grad))": Torch(by.line_jvp_of_grad)} if second else {}),
        **both("torch-jet", by.line_torch_jet(order), peers),
        "JAX jet (jit)": Jax("line_jet", order=order),
        "JAX jvp(jvp) (jit)": Jax("line_nested", order=order),
        **({"loop": Torch(by.line_loop)} if loop else {}),
    }
    if width is None:
        model: nn.Module = models.Bell()
        x, sizes = torch.linspace(-2, 2, batch).unsqueeze(1), {"model": "layer"}
    else:
        model, x = models.mlp(1, *[width] * 4, 1), torch.randn(batch, 1)
        sizes = {"width": width}
    described = "exp(-beta x^2)" if width is None else f"width {width}"
    return Problem(
        name=name.format(model=described, batch=batch, order=order),
        sizes={"order": order, "batch": batch, **sizes},
        model=model,
        inputs=(x,),
        ways=ways,
        batch=batch,
        compiled=compiled,
        products=None if width is None else order + 1,
    )


# batch sizes, and those of them at which torch contenders are compiled
BATCHES = {
    None: ((100, 1_000, 10_000, 100_000), (1_000, 100_000)),
    32: ((100, 1_000, 10_000, 100_000), (1_000,)),
    64: ((100, 1_000, 10_000, 100_000), (100, 1_000, 10_000)),
    256: ((100, 1_000, 10_000), (1_000, 10_000)),
}
SECOND_ORDER: list[Size] = [
    {
        "order": 2,
        "batch": n,
        "width": width,
        "compiled": STEPS if n in compiled else (),
        "compiled_peers": (width, n) == (64, 1_000),
        "loop": width is None,
    }
    for width, (batches, compiled) in BATCHES.items()
    for n in batches
]
ORDERS: list[Size] = [
    {
        "order": k,
        "width": 64,
        "batch": 1_000,
        "name": "order {order}",
        "compiled": STEPS if k in (2, 4, 6) else (FORWARD,) if k in (1, 3, 8, 10) else (),
    }
    for k in range(1, 11)
]
LATENCY: list[Size] = [
    {
        "order": 2,
        "width": 64,
        "batch": n,
        "name": "batch {batch}",
        "compiled": STEPS if n in (1, 16) else (),
    }
    for n in (1, 4, 16, 64)
]


# --- c: equations -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Equation:
    """A partial differential equation: what its residual needs.

    ``wanted``: derivatives as ``u_xx``, of the named ``outputs`` of the network; ``residual`` takes
    them in this order.
    """

    letters: str
    wanted: str
    residual: Callable[..., Any]
    outputs: str = "u"


def _navier_stokes(
    s_x: Any, s_y: Any, s_tx: Any, s_ty: Any, s_xx: Any, s_xy: Any, s_yy: Any,
    s_xxx: Any, s_xxy: Any, s_xyy: Any, s_yyy: Any, p_x: Any, p_y: Any,
) -> tuple[Any, ...]:  # fmt: skip
    """Momentum in x and in y, of the velocity ``(s_y, -s_x)``."""
    return (
        s_ty + s_y * s_xy - s_x * s_yy + p_x - 0.01 * (s_xxy + s_yyy),
        -s_tx - s_y * s_xx + s_x * s_xy + p_y + 0.01 * (s_xxx + s_xyy),
    )


EQUATIONS = {
    "heat": Equation("tx", "u_t u_xx", lambda t, xx: (t - 0.1 * xx,)),
    "Burgers": Equation("tx", "u u_t u_x u_xx", lambda u, t, x, xx: (t + u * x - 0.01 * xx,)),
    "KdV": Equation("tx", "u u_t u_x u_xxx", lambda u, t, x, xxx: (t + 6 * u * x + xxx,)),
    "Kuramoto-Sivashinsky": Equation(
        "tx",
        "u u_t u_x u_xx u_xxxx",
        lambda u, t, x, xx, xxxx: (t + u * x + xx + xxxx,),
    ),
    "Navier-Stokes": Equation(
        "txy",
        "s_x s_y s_tx s_ty s_xx s_xy s_yy s_xxx s_xxy s_xyy s_yyy p_x p_y",
        _navier_stokes,
        "sp",
    ),
}


def equation(name: str, batch: int, width: int, compiled: Sequence[str] = ()) -> Problem:
    """A training step on the residual of an equation."""
    e = EQUATIONS[name]
    letters = e.letters
    split = [w.partition("_") for w in e.wanted.split()]
    wanted = [(by_what, e.outputs.index(output)) for output, _, by_what in split]
    order = max(len(by_what) for by_what, _ in wanted)
    # compiling takes minutes for the higher orders
    compiled_jvp = compiled if name == "Burgers" else ()

    def loss(found: Sequence[Any]) -> Any:
        return sum((r * r).mean() for r in e.residual(*found))

    return Problem(
        name=f"{name} (order {order})",
        sizes={"equation": name, "order": order, "batch": batch, "width": width},
        model=models.mlp(len(letters), *[width] * 4, len(e.outputs)),
        inputs=tuple(torch.rand(batch, 1) for _ in letters),
        ways={
            PLAIN: Torch(_plain_equation, loss=mean_squares),
            **both(TAYLOR, by.equation_taylor(letters, wanted), compiled),
            NESTED: Torch(by.equation_nested(letters, wanted)),
            **both("jvp(jvp)", by.equation_jvp(letters, wanted), compiled_jvp),
            **both("torch-jet", by.equation_torch_jet(letters, wanted), compiled),
            "JAX jet (jit)": Jax("equation_jet", letters=letters, wanted=wanted),
            "JAX jvp(jvp) (jit)": Jax("equation_nested", letters=letters, wanted=wanted),
        },
        batch=batch,
        steps=(TRAINING,),
        compiled=compiled,
        loss=loss,
    )


def _plain_equation(model: nn.Module, *inputs: torch.Tensor) -> Callable:
    return lambda *inputs: (model(torch.cat(inputs, -1)),)


# --- d, g, h: the Laplacian ---------------------------------------------------------------------


def laplacian(
    model: nn.Module,
    x: torch.Tensor,
    name: str,
    sizes: Size,
    compiled: Sequence[str] = (),
    others: Mapping[str, Way] | None = None,
    products: float | None = None,
    reference: str = NESTED,
) -> Problem:
    """The Laplacian with respect to all axes of ``x`` but the first."""
    events = x.ndim - 1
    ways: dict[str, Way] = {
        PLAIN: Torch(by.plain),
        **both(TAYLOR, by.laplacian_taylor(events), compiled),
        NESTED: Torch(by.laplacian_nested),
        "vmap(hvp)": Torch(by.laplacian_hvp(events)),
        "vmap(hessian)": Torch(by.laplacian_hessian),
        **both("torch-jet collapsed", by.laplacian_torch_jet, compiled),
        "JAX jet (jit)": Jax("laplacian_jet"),
        "JAX vmap(hvp) (jit)": Jax("laplacian_hvp"),
        "folx (jit)": Jax("laplacian_folx", needs="folx"),
    }
    return Problem(
        name=name,
        sizes=sizes,
        model=model,
        inputs=(x,),
        ways=ways | dict(others or {}),
        batch=len(x),
        compiled=compiled,
        products=products,
        reference=reference,
    )


def paper_network(d: int, batch: int, compiled: Sequence[str] = ()) -> Problem:
    """The network of the torch-jet paper."""
    widths = (768, 768, 512, 512)
    # a layer of H units leaves no more than H directions
    model, directions = models.mlp(d, *widths, 1), min(d, widths[0])
    return laplacian(
        model,
        torch.randn(batch, d) / d**0.5,
        f"D = {d:,}, batch {batch}",
        {"D": d, "batch": batch},
        compiled,
        products=directions + 2,
    )


def attention(tokens: int, width: int, batch: int, compiled: Sequence[str] = ()) -> Problem:
    """The transformer block, by the positions of its tokens."""
    return laplacian(
        models.Block(width, 4),
        torch.randn(batch, tokens, 3),
        f"transformer block, {tokens} tokens, batch {batch}",
        {"model": "transformer", "D": 3 * tokens, "batch": batch},
        compiled,
    )


def atoms(count: int, width: int, batch: int, compiled: Sequence[str] = ()) -> Problem:
    """The potential, by the positions of its atoms."""
    return laplacian(
        models.Potential(count, width, 16),
        1.5 * torch.randn(batch, count, 3),
        f"SchNet-like potential, {count} atoms, batch {batch}",
        {"model": "potential", "D": 3 * count, "batch": batch},
        compiled,
    )


def architectures(kind: str, **size: Any) -> Problem:
    """The workload of more than networks of linear layers."""
    return {"transformer": attention, "potential": atoms}[kind](**size)


WRITTEN_OUT = "Taylor, directions written out"


def high_dimension(kind: str, d: int, batch: int, width: int) -> Problem:
    """Many dimensions: networks with and without a hard boundary factor, a sum over particles."""
    if kind == "particles":
        model, x = models.Particles(width), torch.randn(batch, d // 3, 3)
        name = f"sum over {d // 3:,} particles"
    else:
        network = models.mlp(d, width, width, width, 1)
        model = models.HardBoundary(network) if kind == "boundary" else network
        x = torch.randn(batch, d) / d**0.5
        name = f"D = {d:,}" + (", hard boundary" if kind == "boundary" else "")
    ways: dict[str, Way] = {WRITTEN_OUT: Torch(by.laplacian_written_out(x.ndim - 1))}
    if d > 1_000:
        units = 4e-9 * d * batch * width
        ways |= dict.fromkeys(
            (
                WRITTEN_OUT,
                NESTED,
                "vmap(hvp)",
                "JAX jet (jit)",
                "JAX vmap(hvp) (jit)",
                "folx (jit)",
            ),
            Cannot(
                f"D derivatives of each hidden unit: {units:.1f} GB for each layer.", "too large"
            ),
        )
    for peer in ("vmap(hessian)", "torch-jet collapsed"):
        ways[peer] = Cannot("Measured in workload d.", "see d")
    return laplacian(
        model,
        x,
        name,
        {"kind": kind, "D": d, "batch": batch},
        others=ways,
        reference=NESTED if d <= 1_000 else TAYLOR,
    )


# --- e: the biharmonic operator -----------------------------------------------------------------


def biharmonic(
    d: int, batch: int, width: int, samples: int | None = None, compiled: Sequence[str] = ()
) -> Problem:
    """Exact, or estimated from ``samples`` directions that are the same for all contenders."""
    ways: dict[str, Way] = {PLAIN: Torch(by.plain)}
    if samples is None:
        ways |= {
            **both(TAYLOR, by.biharmonic_taylor, compiled),
            NESTED: Torch(by.biharmonic_nested),
            "vmap(hessian(hessian))": Torch(by.biharmonic_hessian),
            **both("torch-jet collapsed", by.biharmonic_torch_jet, compiled),
            "JAX jet (jit)": Jax("biharmonic_jet"),
            "JAX hessian(hessian) (jit)": Jax("biharmonic_hessian"),
            "folx (jit)": Cannot("folx has first and second derivatives."),
        }
    else:
        ways |= {
            TAYLOR: Torch(by.estimate_taylor(samples)),
            NESTED: Torch(by.estimate_nested(samples)),
            "vmap(jvp(jvp))": Torch(by.estimate_jvp(samples)),
            **both("torch-jet collapsed", by.estimate_torch_jet(samples), compiled),
            "JAX jet (jit)": Jax("estimate_jet", samples=samples),
        }
        if compiled:
            ways[TAYLOR_COMPILED] = Torch(by.estimate_directions(samples), compiled=True)
    how = "exact" if samples is None else f"{samples} directions"
    return Problem(
        name=f"D = {d}, {how}",
        sizes={"D": d, "batch": batch, "how": "exact" if samples is None else "estimate"},
        model=models.mlp(d, width, width, width, 1),
        inputs=(torch.randn(batch, d),),
        ways=ways,
        batch=batch,
        compiled=compiled,
    )


# at which dimensions the exact operator is compiled
EXACT_COMPILED = {4: STEPS, 6: (FORWARD,)}

# --- the table ----------------------------------------------------------------------------------

WORKLOADS = {
    w.key: w
    for w in [
        Workload(
            "a",
            "Order 2 of a scalar input",
            "Value, first and second derivative of the layer `exp(-beta x^2)`, entry by entry, and "
            "of a tanh network with four hidden layers and one input.",
            line,
            SECOND_ORDER,
            [
                {"order": 2, "batch": 7, "loop": True},
                {"order": 2, "batch": 7, "width": 8},
            ],
        ),
        Workload(
            "b",
            "Orders 1 to 10",
            "All derivatives up to the order, of the network of width 64, batch 1,000.",
            line,
            ORDERS,
            [{"order": k, "width": 8, "batch": 5, "name": "order {order}"} for k in (2, 4)],
        ),
        Workload(
            "c",
            "Training steps on differential equations",
            "The residual of an equation at 2,000 points, a network with four hidden layers of "
            "width 64. Navier-Stokes: stream function and pressure in two dimensions.",
            equation,
            [
                {"name": name, "batch": 2_000, "width": 64, "compiled": (TRAINING,)}
                for name in EQUATIONS
            ],
            [{"name": name, "batch": 5, "width": 6} for name in EQUATIONS],
        ),
        Workload(
            "d",
            "The Laplacian",
            "A tanh network D, 768, 768, 512, 512, 1, as in Dangel et al. (2025), "
            "arXiv:2505.13644.",
            paper_network,
            [
                {"d": 3, "batch": 256},
                {"d": 10, "batch": 128, "compiled": (FORWARD,)},
                {"d": 50, "batch": 32, "compiled": STEPS},
                {"d": 100, "batch": 16, "compiled": (FORWARD,)},
                {"d": 1_000, "batch": 2, "compiled": (FORWARD,)},
            ],
            [{"d": 3, "batch": 2}],
        ),
        Workload(
            "e",
            "The biharmonic operator",
            "A tanh network with three hidden layers of width 64, batch 64; exact, and estimated "
            "from Gaussian directions, the same ones for all.",
            biharmonic,
            [
                *(
                    {"d": d, "batch": 64, "width": 64, "compiled": EXACT_COMPILED.get(d, ())}
                    for d in range(2, 7)
                ),
                {"d": 6, "batch": 64, "width": 64, "samples": 8, "compiled": (FORWARD,)},
            ],
            [
                {"d": 2, "batch": 3, "width": 6},
                {"d": 3, "batch": 3, "width": 6, "samples": 2},
            ],
        ),
        Workload(
            "f",
            "Small batches",
            "Latency: value, first and second derivative of the network of width 64.",
            line,
            LATENCY,
            [{"order": 2, "width": 8, "batch": 1, "name": "batch {batch}"}],
        ),
        Workload(
            "g",
            "Attention and atoms",
            "The Laplacian with respect to all positions: a pre-norm transformer block, and a "
            "potential with radial basis functions and continuous-filter convolutions.",
            architectures,
            [
                {
                    "kind": "transformer",
                    "tokens": 8,
                    "width": 32,
                    "batch": 32,
                    "compiled": (FORWARD,),
                },
                {"kind": "potential", "count": 6, "width": 32, "batch": 32, "compiled": STEPS},
            ],
            [
                {"kind": "transformer", "tokens": 2, "width": 8, "batch": 2},
                {"kind": "potential", "count": 3, "width": 4, "batch": 2},
            ],
        ),
        Workload(
            "h",
            "High dimensions",
            "The Laplacian of a tanh network with three hidden layers of width 128, batch 100, "
            "with and without a hard boundary factor `1 - |x|^2`; and of a sum over particles, "
            "batch 16, width 64. Taylor compresses the directions; one contender writes them out.",
            high_dimension,
            [
                *(
                    {"kind": kind, "d": d, "batch": 100, "width": 128}
                    for d in (1_000, 10_000, 100_000)
                    for kind in ("network", "boundary")
                ),
                *(
                    {"kind": "particles", "d": 3 * n, "batch": 16, "width": 64}
                    for n in (8, 32, 128)
                ),
            ],
            [
                {"kind": "network", "d": 12, "batch": 2, "width": 6},
                {"kind": "boundary", "d": 12, "batch": 2, "width": 6},
                {"kind": "particles", "d": 6, "batch": 2, "width": 6},
            ],
        ),
    ]
}
