"""What older versions of torch cannot do: tests of it are left out, with this as the reason."""

import pytest
import torch

OLD_TORCH = torch.__version__ < (2, 13)
needs_newer_torch = pytest.mark.skipif(
    OLD_TORCH, reason="torch before 2.13 fixes the number of frames of some networks"
)
