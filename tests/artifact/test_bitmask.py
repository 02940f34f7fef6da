import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sparsify.artifact.bitmask import Packed, pack, unpack
from sparsify.errors import SparsifyError

floats = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -2.5, np.nan, np.inf, -np.inf, 2.0**-149]),
    st.floats(width=32, allow_subnormal=True),
)
arrays = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0), elements=floats
)


@given(arrays)
def test_pack_agrees_with_numpy(array):
    packed = pack(torch.from_numpy(array))
    assert packed.compressed.numpy().tobytes() == array[array != 0].tobytes()
    expected = np.packbits((array != 0).ravel(), bitorder="little")
    np.testing.assert_array_equal(packed.bitmask.numpy(), expected)
    assert packed.bitmask.dtype == torch.uint8
    assert packed.shape.dtype == torch.int64
    assert tuple(packed.shape) == array.shape


@given(arrays)
def test_unpack_restores_every_bit_but_the_sign_of_zeros(array):
    restored = unpack(pack(torch.from_numpy(array)))
    expected = np.where(array == 0, np.float32(0), array)
    assert restored.shape == array.shape
    assert restored.numpy().tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int8])
def test_types_survive(dtype):
    tensor = torch.tensor([[0, 3, 0], [-1, 0, 7]]).to(dtype)
    restored = unpack(pack(tensor))
    assert restored.dtype == dtype
    assert torch.equal(restored, tensor)


def test_transposed_tensors_are_packed_in_row_major_order():
    tensor = torch.arange(6.0).reshape(2, 3).t()
    assert pack(tensor).compressed.tolist() == [3, 1, 4, 2, 5]


@pytest.mark.parametrize(
    ("compressed", "bitmask", "shape"),
    [
        ([1.0], [0b11], [2]),  # fewer values than bits
        ([1.0, 2.0], [0b01], [2]),  # more values than bits
        ([1.0], [0b1], [9]),  # too short a mask
        ([1.0], [0b1, 0], [2]),  # too long a mask
        ([1.0], [0b100], [2]),  # a bit beyond the last element
        ([1.0], [0b1], [-1]),
        ([1.0], [0b1], [2**40, 2**40]),
    ],
)
def test_contradictions_are_refused(compressed, bitmask, shape):
    packed = Packed(
        torch.tensor(compressed), torch.tensor(bitmask, dtype=torch.uint8), torch.tensor(shape)
    )
    with pytest.raises(SparsifyError):
        unpack(packed)


def test_a_mask_of_another_type_is_refused():
    packed = Packed(torch.tensor([1.0]), torch.tensor([1]), torch.tensor([2]))
    with pytest.raises(SparsifyError, match="uint8"):
        unpack(packed)
