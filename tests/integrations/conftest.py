"""Double precision throughout, and DeepXDE on its PyTorch backend."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

os.environ["DDE_BACKEND"] = "pytorch"


@pytest.fixture(autouse=True)
def _double_precision() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)
