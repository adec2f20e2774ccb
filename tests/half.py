"""What old versions of torch lack on a CPU."""

import pytest
import torch


def _multiplies():
    ones = torch.ones(2, 2).half()
    try:
        return bool((ones @ ones + torch.nn.functional.linear(ones, ones, ones[0])).sum())
    except RuntimeError:
        return False


MULTIPLIES = _multiplies()
needs_half = pytest.mark.skipif(
    not MULTIPLIES, reason=f"torch {torch.__version__} multiplies no float16 on a CPU"
)
