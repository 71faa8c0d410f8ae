"""Double precision throughout, and torchvision beside a torch without CUDA."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

# torchvision's wheel is linked against CUDA; where that is missing its import asks for operators
# that did not load. The models call none of them, a declaration is enough.
MISSING = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


@pytest.fixture(scope="session", autouse=True)
def _operators_of_torchvision() -> None:
    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None:
        return
    try:
        torch.ops.load_library(Path(found.origin).parent / "_C.so")
    except OSError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name, signature in MISSING.items():
            library.define(name + signature)
        # operators are gone when their library is
        _operators_of_torchvision.library = library


@pytest.fixture(autouse=True)
def _double_precision() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
