"""A table of the layers of ``torch.nn``: how each is made and called, with what arguments."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

F64 = torch.float64

# --- rows -----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class S:
    """An argument that is a series: its shape, and the range of its value."""

    shape: tuple[int, ...]
    low: float = -1.0
    high: float = 1.0


def s(*shape: int, low: float = -1.0, high: float = 1.0) -> S:
    return S(shape, low, high)


def positive(*shape: int) -> S:
    return S(shape, 0.2, 0.8)


@dataclasses.dataclass(frozen=True)
class Row:
    """A layer, its arguments, how it is called, and a formula where torch's own is no oracle."""

    make: Callable[[], nn.Module]
    arguments: tuple[Any, ...]
    use: Callable[..., Any] = lambda module, *arguments: module(*arguments)
    formula: Callable[..., Any] | None = None
    tolerance: float = 1e-9


def ints(*numbers: Any) -> torch.Tensor:
    return torch.tensor(numbers)


def fixed(*shape: int, low: float = 0.2, high: float = 0.8) -> torch.Tensor:
    """Numbers that do not repeat, for constants."""
    count = math.prod(shape)
    steps = torch.arange(count, dtype=F64) * 0.618033988749895 % 1
    return low + (high - low) * steps.reshape(shape)


def on_a_copy(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The layer, which may write into what it is given."""
    return module(x * 1.0)


def elementwise() -> dict[str, list[Row]]:
    plain = s(2, 3, 4, low=-2, high=2)
    made: dict[str, list[Callable[[], nn.Module]]] = {
        "CELU": [nn.CELU, lambda: nn.CELU(0.5)],
        "ELU": [nn.ELU, lambda: nn.ELU(0.7, inplace=True)],
        "GELU": [nn.GELU, lambda: nn.GELU("tanh")],
        "GLU": [nn.GLU, lambda: nn.GLU(0)],
        "Hardshrink": [nn.Hardshrink],
        "Hardsigmoid": [nn.Hardsigmoid],
        "Hardswish": [nn.Hardswish, lambda: nn.Hardswish(inplace=True)],
        "Hardtanh": [nn.Hardtanh, lambda: nn.Hardtanh(-0.3, 1.2)],
        "Identity": [nn.Identity, lambda: nn.Identity(54, unused=True)],
        "LeakyReLU": [nn.LeakyReLU, lambda: nn.LeakyReLU(0.3, inplace=True)],
        "LogSigmoid": [nn.LogSigmoid],
        "LogSoftmax": [lambda: nn.LogSoftmax(1), lambda: nn.LogSoftmax(-1)],
        "Mish": [nn.Mish],
        "PReLU": [nn.PReLU, lambda: nn.PReLU(3)],
        "ReLU": [nn.ReLU, lambda: nn.ReLU(inplace=True)],
        "ReLU6": [nn.ReLU6],
        "RReLU": [nn.RReLU, lambda: nn.RReLU(0.2, 0.6, inplace=True)],
        "SELU": [nn.SELU],
        "SiLU": [nn.SiLU, lambda: nn.SiLU(inplace=True)],
        "Sigmoid": [nn.Sigmoid],
        "Softmax": [lambda: nn.Softmax(1), lambda: nn.Softmax(-1)],
        "Softmin": [lambda: nn.Softmin(2)],
        "Softplus": [nn.Softplus, lambda: nn.Softplus(3, 4)],
        "Softshrink": [nn.Softshrink, lambda: nn.Softshrink(0.2)],
        "Softsign": [nn.Softsign],
        "Tanh": [nn.Tanh],
        "Tanhshrink": [nn.Tanhshrink],
        "Threshold": [lambda: nn.Threshold(0.3, -1.5)],
    }
    formulas = {
        "Hardsigmoid": lambda m, x: torch.clamp(x / 6 + 0.5, 0, 1),
        "Hardswish": lambda m, x: x * torch.clamp(x / 6 + 0.5, 0, 1),
    }
    rows = {
        name: [Row(make, (plain,), on_a_copy, formulas.get(name), 1e-7) for make in makes]
        for name, makes in made.items()
    }
    rows["Softmax2d"] = [Row(nn.Softmax2d, (s(2, 3, 2, 2),)), Row(nn.Softmax2d, (s(3, 2, 2),))]
    return rows


EXTENTS = (6, 5, 4)


def convolutions() -> dict[str, list[Row]]:
    options: list[dict[str, Any]] = [
        {},
        {"stride": 2, "padding": 1},
        {"groups": 2, "dilation": 2, "bias": False, "padding": "same"},
        {"padding": 1, "padding_mode": "reflect"},
        {"padding": 2, "padding_mode": "replicate", "stride": 2},
        {"padding": "same", "padding_mode": "circular"},
        {"padding": "valid", "groups": 4},
    ]
    transposed: list[dict[str, Any]] = [
        {},
        {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2},
        {"dilation": 2, "bias": False, "padding": 1},
    ]
    rows: dict[str, list[Row]] = {}
    for n in (1, 2, 3):
        wide, small = s(2, 4, *EXTENTS[:n]), s(2, 4, *EXTENTS[3 - n :])
        forward, backward = getattr(nn, f"Conv{n}d"), getattr(nn, f"ConvTranspose{n}d")
        size = 2 if n == 3 else 3
        rows[f"Conv{n}d"] = [Row(partial(forward, 4, 4, size, **o), (wide,)) for o in options]
        rows[f"Conv{n}d"].append(Row(partial(forward, 4, 2, 2), (s(4, *EXTENTS[:n]),)))
        rows[f"ConvTranspose{n}d"] = [
            Row(partial(backward, 4, 2, 3, **o), (small,)) for o in transposed
        ]
        rows[f"ConvTranspose{n}d"].append(
            Row(
                partial(backward, 4, 2, 3, stride=2),
                (small,),
                use=lambda m, x: m(x, output_size=[2 * e + 2 for e in x.shape[2:]]),
            )
        )
        for kind in ("Conv", "ConvTranspose"):
            name = f"Lazy{kind}{n}d"
            rows[name] = [Row(partial(getattr(nn, name), 2, 2), (small,))]
    return rows


def pools() -> dict[str, list[Row]]:
    rows: dict[str, list[Row]] = {}

    def add(name: str, argument: S, *options: dict[str, Any], use: Callable | None = None) -> None:
        more = {} if use is None else {"use": use}
        made = [Row(partial(getattr(nn, name), **o), (argument,), **more) for o in options]
        rows.setdefault(name, []).extend(made)

    for n in (1, 2, 3):
        x, single = s(2, 2, *EXTENTS[:n]), s(2, *EXTENTS[:n])
        bordered = {"kernel_size": 3, "stride": 2, "padding": 1}
        add(
            f"AvgPool{n}d",
            x,
            {"kernel_size": 2},
            {**bordered, "ceil_mode": True, "count_include_pad": False},
        )
        if n > 1:
            add(f"AvgPool{n}d", single, {"kernel_size": 2, "stride": 1, "divisor_override": 3})
        add(
            f"MaxPool{n}d",
            x,
            {"kernel_size": 2},
            {**bordered, "return_indices": True},
            {"kernel_size": 2, "stride": 1, "dilation": 2, "ceil_mode": True},
        )
        add(f"MaxPool{n}d", single, {"kernel_size": 3, "stride": 1})
        sizes = (3, None, 2)[:n] if n > 1 else 3
        add(f"AdaptiveAvgPool{n}d", x, {"output_size": sizes})
        add(f"AdaptiveAvgPool{n}d", single, {"output_size": 1})
        add(
            f"AdaptiveMaxPool{n}d",
            x,
            {"output_size": sizes},
            {"output_size": sizes, "return_indices": True},
        )
        add(
            f"LPPool{n}d",
            positive(2, 2, *EXTENTS[:n]),
            {"norm_type": 2, "kernel_size": 2},
            {"norm_type": 3.5, "kernel_size": 2, "stride": 1},
            {"norm_type": math.inf, "kernel_size": 2, "ceil_mode": True},
        )
        for options in ({"kernel_size": 2}, {"kernel_size": 2, "stride": 2, "padding": 1}):
            pool = getattr(nn, f"MaxPool{n}d")(**options, return_indices=True)
            add(
                f"MaxUnpool{n}d",
                x,
                options,
                use=lambda m, x, pool=pool: m(*pool(x), output_size=x.shape),
            )
        if n > 1:
            drawn = {"kernel_size": 2, "_random_samples": fixed(2, 2, n)}
            add(
                f"FractionalMaxPool{n}d",
                x,
                {**drawn, "output_size": 2},
                {**drawn, "output_ratio": 0.7, "return_indices": True},
                # the windows drawn anew at each call
                {"kernel_size": 2, "output_size": 2},
            )
    return rows


def paddings() -> dict[str, list[Row]]:
    rows: dict[str, list[Row]] = {}
    for n in (1, 2, 3):
        x, single = s(2, 2, *EXTENTS[:n]), s(2, *EXTENTS[:n])
        for kind in ("Circular", "Reflection", "Replication", "Zero"):
            name = f"{kind}Pad{n}d"
            pad = getattr(nn, name)
            rows[name] = [Row(partial(pad, 2), (x,)), Row(partial(pad, (1, 2) * n), (single,))]
        pad = getattr(nn, f"ConstantPad{n}d")
        cropped = (-1, 2) + (0, 1) * (n - 1)
        rows[f"ConstantPad{n}d"] = [
            Row(partial(pad, 1, 3.5), (x,)),
            Row(partial(pad, cropped, -1.0), (x,)),
        ]
    return rows


def normalisations() -> dict[str, list[Row]]:
    rows: dict[str, list[Row]] = {}
    for n in (1, 2, 3):
        shape = (3, 2, *EXTENTS[3 - n :])
        batch, instance = getattr(nn, f"BatchNorm{n}d"), getattr(nn, f"InstanceNorm{n}d")
        rows[f"BatchNorm{n}d"] = [
            Row(partial(batch, 2), (s(*shape),)),
            Row(partial(batch, 2, eps=0.1, momentum=None, affine=False), (s(*shape),)),
            Row(partial(batch, 2, track_running_stats=False), (s(*shape),)),
        ]
        rows[f"InstanceNorm{n}d"] = [
            Row(partial(instance, 2), (s(*shape),)),
            Row(partial(instance, 2, affine=True, track_running_stats=True), (s(*shape),)),
            Row(partial(instance, 2, eps=0.1), (s(*shape[1:]),)),
        ]
        for kind in ("Batch", "Instance"):
            name = f"Lazy{kind}Norm{n}d"
            rows[name] = [Row(getattr(nn, name), (s(*shape),))]
    rows["BatchNorm1d"].append(Row(lambda: nn.BatchNorm1d(3), (s(5, 3),)))
    rows["SyncBatchNorm"] = [Row(lambda: nn.SyncBatchNorm(2), (s(3, 2, 4),))]
    rows["LayerNorm"] = [
        Row(lambda: nn.LayerNorm(4), (s(2, 3, 4),)),
        Row(lambda: nn.LayerNorm((3, 4), bias=False), (s(2, 3, 4),)),
        Row(lambda: nn.LayerNorm(4, eps=0.1, elementwise_affine=False), (s(4),)),
    ]
    rows["RMSNorm"] = [
        Row(lambda: nn.RMSNorm(4), (s(2, 3, 4),)),
        Row(lambda: nn.RMSNorm((3, 4), eps=0.1, elementwise_affine=False), (s(2, 3, 4),)),
    ]
    rows["GroupNorm"] = [
        Row(lambda: nn.GroupNorm(2, 4), (s(2, 4, 3),)),
        Row(lambda: nn.GroupNorm(4, 4, affine=False), (s(2, 4, 2, 3),)),
        Row(lambda: nn.GroupNorm(1, 4, eps=0.1, bias=False), (s(2, 4, 1, 2, 2),)),
        Row(lambda: nn.GroupNorm(2, 4), (s(3, 4),)),
    ]
    rows["LocalResponseNorm"] = [
        Row(lambda: nn.LocalResponseNorm(3, 0.5), (s(2, 4, 3),)),
        Row(lambda: nn.LocalResponseNorm(2, 0.5, 0.6, 2.0), (s(2, 4, 2, 3),)),
        Row(lambda: nn.LocalResponseNorm(4, 0.5), (s(1, 3, 2, 2, 2),)),
    ]
    return rows


def packed(module: nn.Module, x: torch.Tensor) -> Any:
    """Sequences of different lengths, not in the order of their lengths."""
    pack = pack_padded_sequence(
        x, ints(2, 4, 3), batch_first=module.batch_first, enforce_sorted=False
    )
    output, state = module(pack)
    padded, _ = pad_packed_sequence(output, module.batch_first, padding_value=0.5, total_length=5)
    return padded, state, output.data


def recurrent() -> dict[str, list[Row]]:
    rows: dict[str, list[Row]] = {}
    deep = {"num_layers": 2, "bidirectional": True, "dropout": 0.5}
    for name in ("RNN", "GRU", "LSTM"):
        network, cell = getattr(nn, name), getattr(nn, f"{name}Cell")
        state = (s(1, 2, 3), s(1, 2, 3)) if name == "LSTM" else s(1, 2, 3)
        rows[name] = [
            Row(partial(network, 2, 3), (s(4, 2, 2),)),
            Row(partial(network, 2, 3, bias=False, batch_first=True), (s(2, 4, 2), state)),
            Row(partial(network, 2, 3, **deep), (s(3, 2, 2),)),
            Row(partial(network, 2, 3, batch_first=True), (s(4, 2),)),
            Row(partial(network, 2, 3, **deep), (s(4, 3, 2),), use=packed),
            Row(partial(network, 2, 3, batch_first=True), (s(3, 4, 2),), use=packed),
        ]
        start = (s(2, 3), s(2, 3)) if name == "LSTM" else s(2, 3)
        rows[f"{name}Cell"] = [
            Row(partial(cell, 2, 3), (s(2, 2),)),
            Row(partial(cell, 2, 3, bias=False), (s(2, 2), start)),
            Row(partial(cell, 2, 3), (s(2),)),
        ]
    rows["RNN"].append(Row(lambda: nn.RNN(2, 3, nonlinearity="relu"), (s(4, 2, 2),)))
    rows["RNNCell"].append(Row(lambda: nn.RNNCell(2, 3, nonlinearity="relu"), (s(2, 2),)))
    rows["LSTM"].append(Row(partial(nn.LSTM, 2, 4, proj_size=3, **deep), (s(3, 2, 2),)))
    rows["LSTM"].append(Row(lambda: nn.LSTM(2, 4, proj_size=3), (s(4, 3, 2),), use=packed))
    return rows


CAUSAL = nn.Transformer.generate_square_subsequent_mask(3, dtype=F64)
FORBIDDEN = torch.tensor([[0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 1]], dtype=torch.bool)
PADDED = torch.tensor([[0, 0, 0, 1], [0, 0, 1, 1]], dtype=torch.bool)
PADDED3 = PADDED[:, 1:]


def of_itself(module: nn.Module, x: torch.Tensor, **options: Any) -> Any:
    return module(x, x, x, **options)


def attention() -> dict[str, list[Row]]:
    q, kv = s(3, 2, 4), s(4, 2, 4)

    def mha(arguments: tuple, options: dict[str, Any], **call: Any) -> Row:
        return Row(
            lambda: nn.MultiheadAttention(4, 2, **options),
            arguments,
            use=lambda m, *a: m(*a, **call),
        )

    one = s(2, 3, 4)
    heads = [
        mha((q, kv, kv), {}),
        mha((q, kv, kv), {}, need_weights=False),
        mha((q, kv, kv), {"dropout": 0.4, "bias": False}, average_attn_weights=False),
        mha((q, kv, kv), {"dropout": 0.4}, need_weights=False),
        mha((q, kv, kv), {"add_bias_kv": True, "add_zero_attn": True}),
        mha((q, kv, kv), {"add_bias_kv": True}, need_weights=False, attn_mask=FORBIDDEN),
        mha((q, s(4, 2, 3), s(4, 2, 5)), {"kdim": 3, "vdim": 5}),
        mha((q, kv, kv), {}, attn_mask=FORBIDDEN, key_padding_mask=PADDED),
        mha((q, kv, kv), {}, attn_mask=fixed(3, 4), need_weights=False),
        mha((q, kv, kv), {}, attn_mask=fixed(4, 3, 4), key_padding_mask=fixed(2, 4)),
        mha((s(3, 4), s(4, 4), s(4, 4)), {}, key_padding_mask=PADDED[0]),
        Row(lambda: nn.MultiheadAttention(4, 2, batch_first=True), (one,), use=of_itself),
        Row(
            lambda: nn.MultiheadAttention(4, 2, batch_first=True),
            (one,),
            use=lambda m, x: of_itself(m, x, need_weights=False, is_causal=True, attn_mask=CAUSAL),
        ),
        # a series in the mask
        Row(
            lambda: nn.MultiheadAttention(4, 2, batch_first=True),
            (one, s(3, 3)),
            use=lambda m, x, mask: of_itself(m, x, attn_mask=mask),
        ),
    ]
    first = {"batch_first": True, "dim_feedforward": 5}

    def layers(kind: str, count: int = 2, norm: bool = False, **options: Any) -> Callable:
        layer = getattr(nn, f"Transformer{kind}Layer")
        stack = getattr(nn, f"Transformer{kind}")
        more = {"enable_nested_tensor": False} if kind == "Encoder" and count else {}

        def make() -> nn.Module:
            one = layer(4, 2, **{"dim_feedforward": 5, **options})
            return stack(one, count, norm=nn.LayerNorm(4) if norm else None, **more)

        return make

    encoder = [
        Row(lambda: nn.TransformerEncoderLayer(4, 2, 5), (s(3, 2, 4),)),
        Row(
            lambda: nn.TransformerEncoderLayer(4, 2, **first, dropout=0.0, activation="gelu"),
            (one,),
            use=lambda m, x: m(x, src_key_padding_mask=PADDED3),
        ),
        Row(
            lambda: nn.TransformerEncoderLayer(
                4, 2, **first, norm_first=True, bias=False, activation=torch.tanh
            ),
            (one,),
            use=lambda m, x: m(x, src_mask=CAUSAL, is_causal=True),
        ),
    ]
    decoder = [
        Row(lambda: nn.TransformerDecoderLayer(4, 2, 5), (s(3, 2, 4), s(4, 2, 4))),
        Row(
            lambda: nn.TransformerDecoderLayer(4, 2, **first, norm_first=True, activation="gelu"),
            (one, s(2, 4, 4)),
            use=lambda m, x, y: m(x, y, tgt_mask=CAUSAL, memory_key_padding_mask=PADDED),
        ),
    ]
    return {
        "MultiheadAttention": heads,
        "TransformerEncoderLayer": encoder,
        "TransformerDecoderLayer": decoder,
        "TransformerEncoder": [
            Row(layers("Encoder", norm=True, dropout=0.0), (s(3, 2, 4),)),
            Row(
                layers("Encoder", batch_first=True),
                (one,),
                use=lambda m, x: m(x, mask=CAUSAL, is_causal=True),
            ),
            Row(
                layers("Encoder", batch_first=True, activation="gelu"),
                (one,),
                use=lambda m, x: m(x, src_key_padding_mask=PADDED3),
            ),
        ],
        "TransformerDecoder": [
            Row(
                layers("Decoder", norm=True, batch_first=True),
                (one, s(2, 4, 4)),
                use=lambda m, x, y: m(x, y, tgt_mask=CAUSAL, tgt_is_causal=True),
            ),
        ],
        "Transformer": [
            Row(lambda: nn.Transformer(4, 2, 1, 1, 5), (s(4, 2, 4), s(3, 2, 4))),
            Row(
                lambda: nn.Transformer(4, 2, 1, 1, **first, norm_first=True, activation="gelu"),
                (s(2, 4, 4), one),
                use=lambda m, x, y: m(
                    x,
                    y,
                    tgt_mask=CAUSAL.isinf(),
                    src_key_padding_mask=PADDED,
                    memory_key_padding_mask=PADDED,
                ),
            ),
        ],
    }


BAG = ints(1, 4, 1, 0, 3, 2)
OFFSETS = ints(0, 2, 2, 5)


def bags(table: torch.Tensor, p: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    rows = table[BAG] * p[:, None]
    ends = [*offsets.tolist()[1:], len(rows)]
    return torch.stack([rows[i:j].sum(0) for i, j in zip(offsets.tolist(), ends, strict=True)])


def embeddings() -> dict[str, list[Row]]:
    words = ints([1, 4, 1], [0, 3, 2])

    def scaled(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(m(words) * x)

    def of_weight(*arguments: Any) -> Callable:
        return lambda m, w: torch.func.functional_call(m, {"weight": w}, arguments)

    bag = partial(partial, nn.EmbeddingBag, 5, 3)
    return {
        "Embedding": [
            Row(lambda: nn.Embedding(5, 3), (s(3),), use=scaled),
            Row(lambda: nn.Embedding(5, 3, padding_idx=1), (s(2, 3, 3),), use=scaled),
            Row(lambda: nn.Embedding(5, 3), (s(5, 3),), use=of_weight(words)),
            Row(lambda: nn.Embedding(5, 3, padding_idx=4), (s(5, 3),), use=of_weight(words)),
        ],
        "EmbeddingBag": [
            Row(
                bag(mode="sum"),
                (s(6),),
                use=lambda m, p: m(BAG, OFFSETS, p),
                formula=lambda m, p: bags(m.weight, p, OFFSETS),
            ),
            Row(
                bag(mode="sum", padding_idx=1),
                (s(2, 3),),
                use=lambda m, p: m(BAG.reshape(2, 3), None, p),
                formula=lambda m, p: bags(m.weight, p.reshape(-1) * (BAG != 1), ints(0, 3)),
            ),
            Row(bag(), (s(4, 3),), use=lambda m, x: m(BAG, OFFSETS) * torch.sin(x)),
            Row(bag(mode="mean"), (s(5, 3),), use=of_weight(BAG, OFFSETS)),
            Row(bag(mode="max"), (s(5, 3),), use=of_weight(BAG.reshape(2, 3))),
            Row(
                bag(mode="sum", include_last_offset=True),
                (s(5, 3), s(6)),
                use=lambda m, w, p: torch.func.functional_call(
                    m, {"weight": w}, (BAG, ints(0, 2, 6), p)
                ),
                formula=lambda m, w, p: bags(w, p, ints(0, 2)),
            ),
        ],
    }


def linear_and_shapes() -> dict[str, list[Row]]:
    plane = s(1, 2, 3, 4)
    upsample: list[Row] = [
        Row(lambda: nn.Upsample(7), (s(2, 2, 4),)),
        Row(lambda: nn.Upsample(scale_factor=1.5, mode="linear"), (s(2, 2, 4),)),
        Row(lambda: nn.Upsample((4, 3), mode="nearest"), (plane,)),
        Row(lambda: nn.Upsample(scale_factor=2, mode="nearest-exact"), (plane,)),
        Row(lambda: nn.Upsample(scale_factor=(1.5, 2), mode="bilinear"), (plane,)),
        Row(lambda: nn.Upsample((5, 6), mode="bilinear", align_corners=True), (plane,)),
        Row(lambda: nn.Upsample((5, 6), mode="bicubic"), (plane,)),
        Row(lambda: nn.Upsample(scale_factor=2.0, mode="bicubic", align_corners=True), (plane,)),
        Row(lambda: nn.Upsample(scale_factor=2), (s(1, 1, 2, 3, 2),)),
        Row(lambda: nn.Upsample((3, 4, 5), mode="trilinear"), (s(1, 1, 2, 3, 2),)),
        Row(
            lambda: nn.Upsample(
                scale_factor=1.7, mode="bilinear", recompute_scale_factor=True, align_corners=False
            ),
            (plane,),
        ),
    ]
    return {
        "Linear": [
            Row(lambda: nn.Linear(3, 2), (s(4, 3),)),
            Row(lambda: nn.Linear(3, 2, bias=False), (s(3),)),
            Row(lambda: nn.Linear(3, 2), (s(2, 1, 2, 3),)),
        ],
        "LazyLinear": [Row(lambda: nn.LazyLinear(2), (s(4, 3),))],
        "Bilinear": [
            Row(lambda: nn.Bilinear(3, 2, 4), (s(2, 3), s(2, 2))),
            Row(lambda: nn.Bilinear(3, 3, 2, bias=False), (s(2, 2, 3),), use=lambda m, x: m(x, x)),
            Row(lambda: nn.Bilinear(3, 2, 1), (s(2, 3), fixed(2, 2))),
        ],
        "Flatten": [
            Row(nn.Flatten, (s(2, 3, 2),)),
            Row(lambda: nn.Flatten(0, 1), (s(2, 3, 2),)),
        ],
        "Unflatten": [
            Row(lambda: nn.Unflatten(1, (2, 2)), (s(2, 4, 3),)),
            Row(lambda: nn.Unflatten(-1, torch.Size([3, -1])), (s(2, 6),)),
        ],
        "Fold": [
            Row(lambda: nn.Fold((4, 5), 2), (s(2, 8, 12),)),
            Row(lambda: nn.Fold((4, 5), (2, 3), 2, 1, (1, 2)), (s(12, 8),)),
        ],
        "Unfold": [
            Row(lambda: nn.Unfold(2), (s(2, 2, 3, 4),)),
            Row(lambda: nn.Unfold((2, 3), 2, 1, (1, 2)), (s(2, 4, 5),)),
        ],
        "PixelShuffle": [Row(lambda: nn.PixelShuffle(2), (s(2, 8, 2, 3),))],
        "PixelUnshuffle": [Row(lambda: nn.PixelUnshuffle(2), (s(2, 2, 4, 6),))],
        "ChannelShuffle": [Row(lambda: nn.ChannelShuffle(2), (s(2, 4, 2, 3),))],
        "Upsample": upsample,
        "UpsamplingBilinear2d": [Row(lambda: nn.UpsamplingBilinear2d(scale_factor=2), (plane,))],
        "UpsamplingNearest2d": [Row(lambda: nn.UpsamplingNearest2d((5, 3)), (plane,))],
        "CosineSimilarity": [
            Row(nn.CosineSimilarity, (s(3, 4), s(3, 4))),
            Row(lambda: nn.CosineSimilarity(-1, 0.1), (s(2, 1, 4), s(3, 4))),
        ],
        "PairwiseDistance": [
            Row(nn.PairwiseDistance, (s(3, 4), s(3, 4))),
            Row(lambda: nn.PairwiseDistance(3, 0.1, keepdim=True), (s(3, 4), s(4))),
            Row(lambda: nn.PairwiseDistance(1), (s(3, 4), s(3, 4))),
        ],
    }


def dropouts() -> dict[str, list[Row]]:
    shapes = {
        "Dropout": (3, 4),
        "Dropout1d": (2, 3, 4),
        "Dropout2d": (2, 3, 2, 2),
        "Dropout3d": (2, 3, 1, 2, 2),
        "AlphaDropout": (3, 4),
        "FeatureAlphaDropout": (2, 3, 4),
    }
    rows = {
        name: [Row(partial(getattr(nn, name), p), (s(*shape),)) for p in (0.4, 0.0, 1.0)]
        for name, shape in shapes.items()
    }
    rows["Dropout"].append(
        Row(lambda: nn.Dropout(0.4, inplace=True), (s(3, 4),), use=lambda m, x: m(x * 2))
    )
    return rows


def every_alignment(m: nn.CTCLoss, x: torch.Tensor) -> torch.Tensor:
    """``-log`` of the sum over all paths of labels that collapse to the target, one by one."""
    logs, losses = torch.log_softmax(x, -1), []
    for n, (length, target) in enumerate(CTC):
        found = []
        for path in torch.cartesian_prod(*[torch.arange(logs.shape[-1])] * length).tolist():
            collapsed = [a for i, a in enumerate(path) if i == 0 or a != path[i - 1]]
            if [a for a in collapsed if a != m.blank] == target:
                found.append(sum(logs[i, n, a] for i, a in enumerate(path)))
        losses.append(-torch.logsumexp(torch.stack(found), 0))
    result = torch.stack(losses)
    lengths = result.new_tensor([len(target) for _, target in CTC])
    return {"none": result, "sum": result.sum(), "mean": (result / lengths).mean()}[m.reduction]


def reduced(entries: list[torch.Tensor], reduction: str) -> torch.Tensor:
    stacked = torch.stack(entries)
    return stacked if reduction == "none" else getattr(stacked, reduction)()


def multi_margin(m: nn.MultiMarginLoss, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """A sample and a class at a time."""
    entries = []
    for row, y in zip(x, target.tolist(), strict=True):
        others = [row[j] for j in range(len(row)) if j != y]
        hinge = sum(torch.relu(m.margin - row[y] + other) ** m.p for other in others)
        entries.append(hinge / len(row) * (1 if m.weight is None else m.weight[y]))
    return reduced(entries, m.reduction)


def multilabel_margin(
    m: nn.MultiLabelMarginLoss, x: torch.Tensor, target: torch.Tensor
) -> torch.Tensor:
    """A sample, a label and a class at a time."""
    entries = []
    for row, labels in zip(x, target.tolist(), strict=True):
        labels = labels[: labels.index(-1)] if -1 in labels else labels
        others = [j for j in range(len(row)) if j not in labels]
        pairs = [torch.relu(1 - row[y] + row[j]) for y in labels for j in others]
        entries.append(sum(pairs, torch.zeros((), dtype=F64)) / len(row))
    return reduced(entries, m.reduction)


CTC = [(4, [1, 1]), (3, [2])]
CLASSES = ints(2, 0, 3)
REDUCTIONS = ("none", "mean", "sum")


def losses() -> dict[str, list[Row]]:
    x, y, wide = positive(3, 4), positive(3, 4), s(3, 4, low=-2, high=2)
    other = s(3, 4, low=-2, high=2)
    signs = torch.where(fixed(3, 4) > 0.5, 1.0, -1.0).double()
    sides = torch.tensor([1.0, -1.0, 1.0], dtype=F64)
    weight = fixed(4)
    labels = ints([3, 0, -1, 1], [0, -1, 2, 1], [1, 3, 2, -1])
    pixels = ints([[0, 2], [1, 1]], [[2, 0], [1, 2]])
    image = s(2, 3, 2, 2)

    def each(
        name: str, arguments: tuple, *options: dict[str, Any], formula: Callable | None = None
    ) -> list[Row]:
        return [
            Row(partial(getattr(nn, name), reduction=r, **o), arguments, formula=formula)
            for o in options or ({},)
            for r in REDUCTIONS
        ]

    ctc = [
        Row(
            partial(nn.CTCLoss, reduction=r),
            (s(4, 2, 3),),
            use=lambda m, x: m(
                torch.log_softmax(x, -1),
                ints([1, 1], [2, 0]),
                ints(*(length for length, _ in CTC)),
                ints(*(len(target) for _, target in CTC)),
            ),
            formula=every_alignment,
        )
        for r in REDUCTIONS
    ]
    return {
        "L1Loss": each("L1Loss", (wide, other)),
        "MSELoss": each("MSELoss", (wide, other)) + each("MSELoss", (wide, fixed(3, 4))),
        "SmoothL1Loss": each("SmoothL1Loss", (wide, other), {}, {"beta": 0.4}),
        "HuberLoss": each("HuberLoss", (wide, other), {}, {"delta": 0.4}),
        "BCELoss": each("BCELoss", (x, fixed(3, 4)), {}, {"weight": fixed(3, 1)})
        + each("BCELoss", (x, y)),
        "BCEWithLogitsLoss": each("BCEWithLogitsLoss", (wide, y), {}, {"pos_weight": weight}),
        "KLDivLoss": [
            *each("KLDivLoss", (wide, y), {}, {"log_target": True}),
            Row(lambda: nn.KLDivLoss(reduction="batchmean"), (wide, y)),
        ],
        "PoissonNLLLoss": each(
            "PoissonNLLLoss", (x, positive(3, 4)), {}, {"log_input": False, "full": True}
        )
        + each("PoissonNLLLoss", (x, s(3, 4, low=1.5, high=3)), {"full": True}),
        "GaussianNLLLoss": each(
            "GaussianNLLLoss", (wide, other, positive(3, 4)), {}, {"full": True, "eps": 0.1}
        )
        + each("GaussianNLLLoss", (wide, other, positive(3, 1))),
        "CosineEmbeddingLoss": each("CosineEmbeddingLoss", (wide, other, sides), {"margin": -0.5}),
        "MarginRankingLoss": each(
            "MarginRankingLoss", (s(5), s(5), signs.reshape(-1)[:5]), {"margin": 0.3}
        ),
        "HingeEmbeddingLoss": each("HingeEmbeddingLoss", (wide, signs), {"margin": 0.8}),
        "SoftMarginLoss": each("SoftMarginLoss", (wide, signs)),
        "MultiLabelSoftMarginLoss": each("MultiLabelSoftMarginLoss", (wide, y), {"weight": weight}),
        "MultiLabelMarginLoss": each(
            "MultiLabelMarginLoss", (wide, labels), formula=multilabel_margin
        ),
        "MultiMarginLoss": each(
            "MultiMarginLoss",
            (wide, CLASSES),
            {},
            {"p": 2, "margin": 0.7, "weight": weight},
            formula=multi_margin,
        ),
        "TripletMarginLoss": each(
            "TripletMarginLoss", (wide, other, wide), {}, {"p": 3, "margin": 2.0, "swap": True}
        ),
        "TripletMarginWithDistanceLoss": each(
            "TripletMarginWithDistanceLoss",
            (wide, other, wide),
            {},
            {"distance_function": nn.CosineSimilarity(), "swap": True, "margin": 0.7},
        ),
        "NLLLoss": each("NLLLoss", (wide, CLASSES), {}, {"weight": weight, "ignore_index": 0})
        + each("NLLLoss", (image, pixels)),
        "NLLLoss2d": [Row(partial(nn.NLLLoss2d, reduction=r), (image, pixels)) for r in REDUCTIONS],
        "CrossEntropyLoss": each(
            "CrossEntropyLoss",
            (wide, CLASSES),
            {},
            {"weight": weight, "ignore_index": 3, "label_smoothing": 0.2},
        )
        + each("CrossEntropyLoss", (wide, y), {}, {"weight": weight, "label_smoothing": 0.2})
        + each("CrossEntropyLoss", (image, pixels), {"label_smoothing": 0.1}),
        "LinearCrossEntropyLoss": each(
            "LinearCrossEntropyLoss",
            (s(3, 2), CLASSES),
            {"in_features": 2, "num_classes": 4, "bias": True},
            {"in_features": 2, "num_classes": 4, "weight": weight, "label_smoothing": 0.1},
        ),
        "CTCLoss": ctc,
        "AdaptiveLogSoftmaxWithLoss": [
            Row(
                lambda: nn.AdaptiveLogSoftmaxWithLoss(4, 7, [2, 4], div_value=2.0),
                (s(5, 4), ints(0, 6, 3, 1, 4)),
            ),
            Row(
                lambda: nn.AdaptiveLogSoftmaxWithLoss(4, 7, [2, 4], 2.0, head_bias=True),
                (s(4), torch.tensor(5)),
            ),
            Row(
                lambda: nn.AdaptiveLogSoftmaxWithLoss(4, 7, [2, 4], 2.0),
                (s(5, 4),),
                use=lambda m, x: m.log_prob(x),
            ),
        ],
    }


def wrappers() -> dict[str, list[Row]]:
    def net() -> nn.Module:
        return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))

    return {
        "Sequential": [Row(net, (s(4, 3),))],
        "DataParallel": [Row(lambda: nn.DataParallel(net()), (s(4, 3),))],
        "ModuleList": [
            Row(
                lambda: nn.ModuleList([net(), nn.Linear(2, 2)]),
                (s(4, 3),),
                use=lambda m, x: sum(m[1](m[0](x)) for _ in range(2)),
            )
        ],
        "ModuleDict": [
            Row(
                lambda: nn.ModuleDict({"a": net(), "b": nn.SiLU()}),
                (s(4, 3),),
                use=lambda m, x: m["b"](m["a"](x)),
            )
        ],
        "ParameterList": [
            Row(
                lambda: nn.ParameterList([nn.Parameter(fixed(3, 2)), nn.Parameter(fixed(2))]),
                (s(4, 3),),
                use=lambda m, x: torch.sin(x @ m[0] + m[1]),
            )
        ],
        "ParameterDict": [
            Row(
                lambda: nn.ParameterDict({"w": nn.Parameter(fixed(3, 2))}),
                (s(4, 3),),
                use=lambda m, x: torch.sin(x @ m["w"]),
            )
        ],
    }


TABLE: dict[str, list[Row]] = {
    **elementwise(),
    **convolutions(),
    **pools(),
    **paddings(),
    **normalisations(),
    **recurrent(),
    **attention(),
    **embeddings(),
    **linear_and_shapes(),
    **dropouts(),
    **losses(),
    **wrappers(),
}

# Exported by torch.nn, and no layer.
EXCLUDED = {
    "Module": "the base class: every test here",
    "Container": "its deprecated alias",
    "CrossMapLRN2d": "an autograd.Function, refused: test_a_layer_that_is_an_autograd_function",
    "RNNBase": "the base class of RNN, GRU and LSTM",
    "RNNCellBase": "the base class of their cells",
}
