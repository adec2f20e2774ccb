"""What old versions of torch lack."""

import pytest
import torch

MULTIPLIES_HALF = torch.__version__ >= (2, 2)
needs_half = pytest.mark.skipif(not MULTIPLIES_HALF, reason="before 2.2: no float16 on a CPU")
# Before, nothing tells whether another backward pass will follow: the gradient is kept for it.
TELLS_OF_PASSES = torch.__version__ >= (2, 1)
tells_of_passes = pytest.mark.skipif(not TELLS_OF_PASSES, reason="before 2.1 gradients are kept")
