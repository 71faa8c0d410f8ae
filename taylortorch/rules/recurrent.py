"""Recurrent networks, unrolled in time: torch code on TaylorTensors.

With a row of the input ``x``, the state ``h`` (and ``c``) of the step before, and the gates stacked
in the rows of the weights as torch stacks them:

* RNN: ``h' = tanh(W_i x + b_i + W_h h + b_h)``, or relu in the place of tanh;
* GRU: ``r, z = sigmoid(...)``, ``n = tanh(W_in x + b_in + r (W_hn h + b_hn))``,
  ``h' = (1 - z) n + z h`` (Cho et al. 2014, with the reset gate after the product);
* LSTM: ``i, f, o = sigmoid(...)``, ``g = tanh(...)``, ``c' = f c + i g``, ``h' = o tanh(c')``
  (Hochreiter & Schmidhuber 1997, with forget gates), projected to ``W_r h'`` if asked for.

The products with the input are one matrix product for all times; only those with the state wait for
the step before. A padded batch is a packed one whose steps all have the same number of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from ..engine.kinds import composite
from ..engine.private import pack_padded_sequence, pad_packed_sequence
from ..engine.registry import add_rule
from ..engine.samples import call, t

State = tuple[Any, ...]

# --- one step: the input's share of the gates, the state before, W_h, b_h -> the state after ------


def _tanh_step(gates: Any, state: State, w_h: Any, b_h: Any) -> State:
    return (torch.tanh(gates + F.linear(state[0], w_h, b_h)),)


def _relu_step(gates: Any, state: State, w_h: Any, b_h: Any) -> State:
    return (torch.relu(gates + F.linear(state[0], w_h, b_h)),)


def _gru_step(gates: Any, state: State, w_h: Any, b_h: Any) -> State:
    h = state[0]
    x_reset, x_update, x_new = torch.chunk(gates, 3, -1)
    h_reset, h_update, h_new = torch.chunk(F.linear(h, w_h, b_h), 3, -1)
    reset = torch.sigmoid(x_reset + h_reset)
    update = torch.sigmoid(x_update + h_update)
    new = torch.tanh(x_new + reset * h_new)
    return (new + update * (h - new),)


def _lstm_step(gates: Any, state: State, w_h: Any, b_h: Any, w_r: Any = None) -> State:
    h, c = state
    enter, forget, new, leave = torch.chunk(gates + F.linear(h, w_h, b_h), 4, -1)
    c = torch.sigmoid(forget) * c + torch.sigmoid(enter) * torch.tanh(new)
    h = torch.sigmoid(leave) * torch.tanh(c)
    return (h if w_r is None else F.linear(h, w_r), c)


STEPS: dict[str, Callable[..., State]] = {
    "rnn_tanh": _tanh_step,
    "rnn_relu": _relu_step,
    "gru": _gru_step,
    "lstm": _lstm_step,
}

# --- all steps ------------------------------------------------------------------------------------


def _joined(parts: list[State]) -> State:
    """The rows of several states, one below the other."""
    if len(parts) == 1:
        return parts[0]
    return tuple(torch.cat(list(column), 0) for column in zip(*parts, strict=True))


def _rows(state: State, start: int, stop: int) -> State:
    return tuple(torch.narrow(s, 0, start, stop - start) for s in state)


def _forwards(steps: Sequence[Any], state: State, step: Callable) -> tuple[list[Any], State]:
    """From first to last; sequences that end leave at the bottom of the batch."""
    outputs, ended = [], []
    rows = state[0].shape[0]
    for gates in steps:
        if gates.shape[0] < rows:
            ended.append(_rows(state, gates.shape[0], rows))
            rows = gates.shape[0]
            state = _rows(state, 0, rows)
        state = step(gates, state)
        outputs.append(state[0])
    return outputs, _joined([state, *reversed(ended)])


def _backwards(steps: Sequence[Any], state: State, step: Callable) -> tuple[list[Any], State]:
    """From last to first; shorter sequences enter at the bottom of the batch."""
    outputs = []
    rows = steps[-1].shape[0]
    current = state if rows == state[0].shape[0] else _rows(state, 0, rows)
    for gates in reversed(steps):
        if gates.shape[0] > rows:
            current = _joined([current, _rows(state, rows, gates.shape[0])])
            rows = gates.shape[0]
        current = step(gates, current)
        outputs.append(current[0])
    return outputs[::-1], current


def _layers(
    data: Any,
    split: Callable[[Any], Sequence[Any]],
    join: Callable[[list[Any]], Any],
    start: State,
    weights: Sequence[Any],
    has_biases: bool,
    layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    step: Callable,
) -> tuple[Any, State]:
    """The layers one after the other, the directions of a layer side by side.

    ``split`` gives the steps of ``data``, ``join`` the data of its steps; ``start`` has, per state,
    the start of each layer and direction along axis 0, as the result has the ends.
    """
    directions = 2 if bidirectional else 1
    size = len(weights) // (layers * directions)
    ends = []
    for layer in range(layers):
        sides = []
        for direction in range(directions):
            n = layer * directions + direction
            own = list(weights[n * size : (n + 1) * size])
            w_x, w_h = own[:2]
            b_x, b_h = own[2:4] if has_biases else (None, None)
            rest = own[4:] if has_biases else own[2:]

            def one(
                gates: Any, state: State, w_h: Any = w_h, b_h: Any = b_h, rest: list = rest
            ) -> State:
                return step(gates, state, w_h, b_h, *rest)

            run = _backwards if direction else _forwards
            steps = split(F.linear(data, w_x, b_x))
            outputs, end = run(steps, tuple(s[n] for s in start), one)
            sides.append(join(outputs))
            ends.append(end)
        data = sides[0] if directions == 1 else torch.cat(sides, -1)
        if dropout and train and layer < layers - 1:
            data = torch.dropout(data, dropout, train)
    return data, tuple(torch.stack(list(column), 0) for column in zip(*ends, strict=True))


def _network(step: Callable) -> Callable:
    """``(input, hx, weights, has_biases, num_layers, dropout, train, bidirectional, batch_first)``,
    or with ``(data, batch_sizes, hx, ...)`` and no ``batch_first`` for a packed batch."""

    def padded(
        input: Any,
        hx: Any,
        params: Sequence[Any],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> tuple[Any, ...]:
        start = tuple(hx) if isinstance(hx, (list, tuple)) else (hx,)
        data = torch.transpose(input, 0, 1) if batch_first else input
        output, ends = _layers(
            data,
            lambda gates: torch.unbind(gates, 0),
            lambda outputs: torch.stack(outputs, 0),
            start,
            params,
            has_biases,
            num_layers,
            dropout,
            train,
            bidirectional,
            step,
        )
        return (torch.transpose(output, 0, 1) if batch_first else output, *ends)

    def packed(
        data: Any,
        batch_sizes: torch.Tensor,
        hx: Any,
        params: Sequence[Any],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
    ) -> tuple[Any, ...]:
        start = tuple(hx) if isinstance(hx, (list, tuple)) else (hx,)
        sizes = batch_sizes.tolist()
        output, ends = _layers(
            data,
            lambda gates: torch.split(gates, sizes, 0),
            lambda outputs: torch.cat(outputs, 0),
            start,
            params,
            has_biases,
            num_layers,
            dropout,
            train,
            bidirectional,
            step,
        )
        return (output, *ends)

    def either(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
        # the weights come third when padded, fourth when packed
        is_packed = "batch_sizes" in kwargs or (
            len(args) > 3 and isinstance(args[3], (list, tuple))
        )
        return packed(*args, **kwargs) if is_packed else padded(*args, **kwargs)

    return either


def _cell(step: Callable) -> Callable:
    """``(input, hx, w_ih, w_hh, b_ih=None, b_hh=None)``: one step of one layer."""

    def one(input: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None) -> Any:
        state = tuple(hx) if isinstance(hx, (list, tuple)) else (hx,)
        after = step(F.linear(input, w_ih, b_ih), state, w_hh, b_hh)
        return after if len(after) > 1 else after[0]

    return one


# --- packing --------------------------------------------------------------------------------------


def _pack_padded(input: Any, lengths: torch.Tensor, batch_first: bool) -> tuple[Any, torch.Tensor]:
    """The rows that torch picks for the numbers of the rows."""
    numbers = torch.arange(input.shape[0] * input.shape[1], device=input.device)
    numbers = numbers.reshape(tuple(input.shape[:2]))
    picked, batch_sizes = pack_padded_sequence(numbers, lengths, batch_first)
    return torch.index_select(torch.flatten(input, 0, 1), 0, picked), batch_sizes


def _pad_packed(
    data: Any, batch_sizes: torch.Tensor, batch_first: bool, padding_value: float, total_length: int
) -> tuple[Any, torch.Tensor]:
    """The rows go where torch puts their numbers."""
    numbers = torch.arange(data.shape[0], device=data.device)
    places, lengths = pad_packed_sequence(numbers, batch_sizes, batch_first, -1, total_length)
    rows = torch.index_select(data, 0, torch.clamp(places, min=0).reshape(-1))
    padded = torch.unflatten(rows, 0, tuple(places.shape))
    inside = (places >= 0).reshape(tuple(places.shape) + (1,) * (data.ndim - 1))
    return torch.where(inside, padded, padding_value), lengths


def _pad_sequence(
    sequences: Sequence[Any],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Any:
    longest = max(len(sequence) for sequence in sequences)
    padded = []
    for sequence in sequences:
        missing = longest - len(sequence)
        ends = (missing, 0) if padding_side == "left" else (0, missing)
        inner = (0, 0) * (sequence.ndim - 1)
        padded.append(F.pad(sequence, (*inner, *ends), value=padding_value))
    return torch.stack(padded, 0 if batch_first else 1)


# --- the rows -------------------------------------------------------------------------------------

GATES = {"rnn_tanh": 1, "rnn_relu": 1, "gru": 3, "lstm": 4}
SIZES = torch.tensor([2, 2, 1])


def _weights(gates: int, input: int, hidden: int, bias: bool = True, projected: int = 0) -> list:
    rows = gates * hidden
    biases = [t(rows, low=-0.5), t(rows, low=-0.5)] if bias else []
    last = [t(projected, hidden)] if projected else []
    return [t(rows, input, low=-0.8), t(rows, projected or hidden, low=-0.8), *biases, *last]


def _samples(name: str) -> list:
    gates, two = GATES[name], name == "lstm"

    def start(count: int, rows: int = 2, hidden: int = 2, projected: int = 0) -> Any:
        h = t(count, rows, projected or hidden)
        return (h, t(count, rows, hidden)) if two else h

    own = _weights(gates, 3, 2)
    deep = [*own, *own, *_weights(gates, 4, 2), *_weights(gates, 4, 2)]
    flags = (0.0, False)
    samples = [
        call(t(2, 2, 3, low=-1), start(1), own, True, 1, *flags, False, False),
        call(t(2, 2, 3, low=-1), start(4), deep, True, 2, *flags, True, True),
        call(t(5, 3, low=-1), SIZES, start(2), [*own, *own], True, 1, *flags, True),
    ]
    if two:
        projected = _weights(gates, 3, 2, bias=False, projected=1)
        samples.append(
            call(t(2, 2, 3), start(1, projected=1), projected, False, 1, *flags, False, False)
        )
    return samples


for name, step in STEPS.items():
    add_rule(name, "composite", "unrolled", composite(_network(step)), _samples(name))
    hx: Any = (t(2, 2), t(2, 2)) if name == "lstm" else t(2, 2)
    weights = _weights(GATES[name], 3, 2)
    add_rule(
        f"{name}_cell",
        "composite",
        "one step",
        composite(_cell(step)),
        [call(t(2, 3), hx, *weights), call(t(2, 3), hx, *weights[:2])],
    )

add_rule(
    "_pack_padded_sequence",
    "composite",
    "rows picked",
    composite(_pack_padded),
    [call(t(3, 2, 2), torch.tensor([3, 2]), False)],
)
add_rule(
    "_pad_packed_sequence",
    "composite",
    "rows placed",
    composite(_pad_packed),
    [call(t(5, 2), SIZES, False, 0.0, -1), call(t(5, 2), SIZES, True, 2.5, 3)],
)
add_rule(
    "_C._nn.pad_sequence",
    "composite",
    "rows padded",
    composite(_pad_sequence),
    [
        call([t(3, 2), t(1, 2)]),
        call([t(2), t(3)], True, 2.5, "left"),
    ],
)
