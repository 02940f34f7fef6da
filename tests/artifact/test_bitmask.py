import ml_dtypes
import numpy as np
import pytest
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
    packed = pack(array)
    assert packed.compressed.tobytes() == array[array != 0].tobytes()
    expected = np.packbits((array != 0).ravel(), bitorder="little")
    np.testing.assert_array_equal(packed.bitmask, expected)
    assert packed.bitmask.dtype == np.uint8
    assert packed.shape.dtype == np.int64
    assert tuple(packed.shape) == array.shape


@given(arrays)
def test_unpack_restores_every_bit_but_the_sign_of_zeros(array):
    restored = unpack(pack(array))
    expected = np.where(array == 0, np.float32(0), array)
    assert restored.shape == array.shape
    assert restored.tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64, np.int8])
def test_types_survive(dtype):
    array = np.array([[0, 3, 0], [-1, 0, 7]], dtype=dtype)
    restored = unpack(pack(array))
    assert restored.dtype == dtype
    np.testing.assert_array_equal(restored, array)


def test_transposed_arrays_are_packed_in_row_major_order():
    array = np.arange(6.0).reshape(2, 3).T
    assert pack(array).compressed.tolist() == [3, 1, 4, 2, 5]


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
    packed = Packed(np.array(compressed), np.array(bitmask, dtype=np.uint8), np.array(shape))
    with pytest.raises(SparsifyError):
        unpack(packed)


def test_a_mask_of_another_type_is_refused():
    packed = Packed(np.array([1.0]), np.array([1]), np.array([2]))
    with pytest.raises(SparsifyError, match="uint8"):
        unpack(packed)
