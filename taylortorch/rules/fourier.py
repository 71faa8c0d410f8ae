"""Fourier transforms: linear in the input, so every block goes through the transform itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..engine.kinds import composite
from ..engine.lifts import Lift, by_axes, by_vmap, from_the_end
from ..engine.multilinear import multilinear
from ..engine.private import NN
from ..engine.registry import UnsupportedFunction, add_rule
from ..engine.samples import call, t

X = t(2, 3, 4, low=-1, high=1)


def _n_axes(func: Callable, args: list, kwargs: dict, leads: set) -> Any:
    """``(input, s, dim, norm)``: without ``dim``, the last axes of ``s``, or all of them."""
    rank = args[0].ndim - 1
    if leads != {0} or rank == 0:
        return by_vmap(func, args, kwargs, leads)
    names = dict(zip(("s", "dim", "norm"), args[1:], strict=False), **kwargs)
    sizes, axes = names.get("s"), names.get("dim")
    if axes is not None:
        names["dim"] = from_the_end(axes, rank)
    else:
        names["dim"] = tuple(range(-(rank if sizes is None else len(sizes)), 0))
    return func(args[0], **names)


ONE_AXIS = by_axes(("dim", 2, -1))
TWO_AXES = by_axes(("dim", 2, (-2, -1)))
ALL_AXES = by_axes(("dim", 1, None))

ONE = [call(X), call(X, 3, 1), call(X, 6, dim=0, norm="ortho")]
TWO = [call(X), call(X, (2, 5), (0, 2)), call(X, s=(4, 3), norm="ortho")]
MANY = [call(X), call(X, (3, 6)), call(X, dim=(1, 0)), call(X, (2, 3), (0, 1), "forward")]

TABLE: dict[str, tuple[Lift, list]] = {
    "fft ifft rfft irfft hfft ihfft": (ONE_AXIS, ONE),
    "fft2 ifft2 rfft2 irfft2 hfft2 ihfft2": (TWO_AXES, TWO),
    "fftn ifftn rfftn irfftn hfftn ihfftn": (_n_axes, MANY),
    "fftshift ifftshift": (ALL_AXES, [call(X), call(X, 1), call(X, (0, 2))]),
}
for names, (lift, samples) in TABLE.items():
    for name in names.split():
        rule = multilinear("input : input", lift)
        add_rule(f"fft.{name}", "linear", "input", rule, samples)


# --- short-time transforms ------------------------------------------------------------------------

# not the Python function: that one does not find its way back to a rule inside of torch.compile
_pad = NN.pad


def _window(window: Any, length: int | None, n_fft: int, like: Any) -> Any:
    """The window in the middle of a frame of ``n_fft`` entries; default: ones."""
    if window is None:
        window = torch.ones(
            n_fft if length is None else length, dtype=like.real.dtype, device=like.device
        )
    left = (n_fft - window.shape[0]) // 2
    return _pad(window, (left, n_fft - window.shape[0] - left))


def _frames_transformed(
    input: Any,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Any = None,
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
    align_to_window: bool | None = None,
) -> Any:
    """``X[f, m] = sum_k w[k] x[m hop + k] exp(-2 pi i f k / n_fft)``."""
    hop = n_fft // 4 if hop_length is None else hop_length
    if align_to_window:
        raise UnsupportedFunction("torch.stft(align_to_window=True) of a TaylorTensor: not yet")
    frames = input.unfold(-1, n_fft, hop) * _window(window, win_length, n_fft, input)
    if onesided is None:
        onesided = not frames.is_complex()
    norm = "ortho" if normalized else "backward"
    spectrum = (torch.fft.rfft if onesided else torch.fft.fft)(frames, norm=norm)
    spectrum = torch.transpose(spectrum, -1, -2)
    if return_complex is None:
        return_complex = input.is_complex() or (window is not None and window.is_complex())
    return spectrum if return_complex else torch.view_as_real(spectrum)


def _stft(
    input: Any,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Any = None,
    center: bool = True,
    pad_mode: str = "reflect",
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
    align_to_window: bool | None = None,
) -> Any:
    if center:
        # reflection needs a batch and a channel axis
        shape = tuple(input.shape)
        padded = _pad(input.reshape((1, -1, shape[-1])), (n_fft // 2, n_fft // 2), pad_mode)
        input = padded.reshape((*shape[:-1], padded.shape[-1]))
    return _frames_transformed(
        input,
        n_fft,
        hop_length,
        win_length,
        window,
        normalized,
        onesided,
        return_complex,
        align_to_window,
    )


def _added_up(frames: Any, hop: int) -> Any:
    """Frames ``(..., count, n)`` laid ``hop`` entries apart and added."""
    count, n = frames.shape[-2:]
    starts = hop * torch.arange(count, device=frames.device)
    places = (starts[:, None] + torch.arange(n, device=frames.device)).reshape(-1)
    lead = tuple(frames.shape[:-2])
    empty = torch.zeros((*lead, n + hop * (count - 1)), dtype=frames.dtype, device=frames.device)
    return torch.index_add(empty, len(lead), places, frames.reshape((*lead, count * n)))


def _istft(
    input: Any,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Any = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: int | None = None,
    return_complex: bool = False,
) -> Any:
    """Least squares: ``sum_m w x_m / sum_m w**2`` over the frames that meet an entry.

    Source: Griffin & Lim, IEEE Trans. ASSP 32 (1984) 236.
    """
    hop = n_fft // 4 if hop_length is None else hop_length
    spectrum = torch.transpose(input, -1, -2)
    if onesided is None:
        onesided = spectrum.shape[-1] != n_fft
    norm = "ortho" if normalized else "backward"
    if return_complex:
        frames = torch.fft.ifft(spectrum, norm=norm)
    elif onesided:
        frames = torch.fft.irfft(spectrum, n_fft, norm=norm)
    else:
        frames = torch.fft.irfft(spectrum[..., : n_fft // 2 + 1], n_fft, norm=norm)
    weights = _window(window, win_length, n_fft, frames)
    total = _added_up(frames * weights, hop)
    squares = torch.broadcast_to(weights * weights, (frames.shape[-2], n_fft))
    envelope = _added_up(squares, hop)
    start = n_fft // 2 if center else 0
    whole = total.shape[-1]
    if length is not None:
        end = min(start + length, whole)
    else:
        end = whole - n_fft // 2 if center else whole
    result = total[..., start:end] / envelope[start:end]
    if length is not None and length > end - start:
        result = _pad(result, (0, length - (end - start)))
    return result


SIGNAL = t(2, 12, low=-1, high=1)
add_rule(
    "torch.stft Tensor.stft",
    "composite",
    "fft of windowed frames",
    composite(_stft),
    [
        call(SIGNAL, 4, 2, window=t(4), return_complex=True),
        call(SIGNAL, 4, 3, 3, t(3), False, "reflect", True, False, True),
        call(t(12), 6, window=t(6), center=True, return_complex=True),
    ],
)
add_rule(
    "_VF.stft",
    "composite",
    "fft of windowed frames",
    composite(_frames_transformed),
    [call(SIGNAL, 4, 2, None, t(4), False, True, True)],
)
add_rule("istft", "composite", "overlapping frames", composite(_istft), [])
