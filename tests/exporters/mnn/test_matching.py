import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sparsify.errors import SparsifyError
from sparsify.exporters.mnn.graph import DEPTHWISE, Operator
from sparsify.exporters.mnn.matching import joined, match_weights

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def operator(weight, type_="Convolution"):
    return Operator("", type_, weight.reshape(*weight.shape, 1, 1))


def test_scaled_and_split_weights_are_found_and_joined():
    a, b, c = (normal(6, columns) for columns in (4, 4, 10))
    scale = np.float32([1, -2, 0, 3, 0.1, 5])[:, None]  # as a folded batch norm, one row dead
    parts = [operator(part) for part in (c[:, :3], b * scale, c[:, 3:], a[:2], a[2:])]
    found = match_weights({"a": a, "b": b, "c": c}, parts)
    assert found == {"a": [3, 4], "b": [1], "c": [0, 2]}
    assert_array_equal(joined([parts[0], parts[2]], (6, 10, 1)), c[..., None])
    assert_array_equal(joined([parts[3], parts[4]], (6, 4)), a)


@pytest.mark.parametrize("taps", [1, 2])
def test_depthwise_operators_take_turns_at_a_weight_with_several_outputs_of_a_channel(taps):
    weight = normal(12, taps)
    parts = [operator(weight[first::3], DEPTHWISE) for first in (2, 0, 1)]
    other = operator(normal(4, taps), DEPTHWISE)
    assert match_weights({"a": weight}, [other, *parts]) == {"a": [2, 3, 1]}
    assert_array_equal(joined([parts[i] for i in (1, 2, 0)], (12, 1, taps)), weight[:, None])


def test_equal_weights_are_not_the_same_operator():
    a = np.zeros((2, 3))
    assert match_weights({"a": a, "b": a}, [operator(a), operator(a)]) == {"a": [0], "b": [1]}


def test_a_weight_that_did_not_survive_is_named():
    a = normal(2, 3)
    for other in (a[::-1], np.zeros((2, 3)), a[:, :2]):
        with pytest.raises(SparsifyError, match="weight 'a' did not survive MNN's converter"):
            match_weights({"a": a}, [operator(other)])
    with pytest.raises(SparsifyError, match="did not survive"):
        match_weights({"a": a}, [Operator("", "Convolution", None)])
