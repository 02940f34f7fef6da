"""Arrays and tensors of the same elements, also of types that numpy does not have."""

import numpy as np
import pytest
import safetensors.torch
import torch

from sparsify.artifact.weights import read_weights
from sparsify.errors import SparsifyError
from sparsify.tensors import array_of, arrays_of, tensor_of

BITS = torch.arange(256, dtype=torch.int32).to(torch.uint8)
TYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    *(torch.uint64, torch.uint32, torch.uint16),
    *(torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz),
    torch.float8_e8m0fnu,
)


def every_byte(dtype):
    if dtype is torch.bool:
        return BITS > 7
    return BITS.view(dtype).reshape(2, -1)


def read_by_pytorch(dtype):
    """Every byte in a type, and then in one that can be compared."""
    stored = every_byte(dtype)
    if stored.element_size() == 1 and stored.is_floating_point():
        return stored.float()
    unsigned = str(dtype).startswith("torch.uint") and stored.element_size() > 1
    return stored.to(torch.int64) if unsigned else stored


@pytest.mark.parametrize("dtype", TYPES)
def test_tensors_and_arrays_are_of_the_same_elements(dtype):
    tensor = every_byte(dtype)
    array = array_of(tensor)
    again = tensor_of(array)
    assert (again.dtype, again.shape) == (dtype, tensor.shape)
    assert torch.equal(again.view(torch.uint8), tensor.view(torch.uint8))
    assert again.data_ptr() == tensor.data_ptr()
    assert np.count_nonzero(array) == int((read_by_pytorch(dtype) != 0).sum())


# Before safetensors 0.8 those of AMD's float8 are not written.
@pytest.mark.parametrize("dtype", [each for each in TYPES if "fnuz" not in str(each)])
def test_files_are_read_as_pytorch_reads_them(dtype, tmp_path):
    safetensors.torch.save_file({"w": every_byte(dtype)}, tmp_path / "m.safetensors")
    read = tensor_of(read_weights(tmp_path / "m.safetensors").arrays["w"])
    torch.testing.assert_close(read, read_by_pytorch(dtype), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("tensor", [torch.ones(2).to_sparse(), torch.ones(2, device="meta")])
def test_what_has_no_array_is_one_sentence(tensor):
    with pytest.raises(SparsifyError, match=rf"'w' of type {tensor.dtype} .* cannot be stored"):
        arrays_of({"w": tensor})
