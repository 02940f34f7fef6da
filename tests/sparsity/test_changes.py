"""What differs between weights, of whatever values."""

import numpy as np
import pytest

from sparsify.sparsity.changes import changes
from sparsify.sparsity.table import Kind
from sparsify.sparsity.zeros import table_of


@pytest.mark.filterwarnings("error")
def test_values_that_are_no_numbers_differ_and_nothing_is_printed():
    odd = np.array([[0x7F800001, 0x7F7FFFFF, 0, 0x80000000]], dtype=np.uint32).view(np.float32)
    layers = table_of({"w": Kind("Linear", prunable=True)}, {"w": odd}).layers
    found = changes(layers, {"w": odd}, {"w": odd[:, ::-1].copy()})["w"]
    assert (found.nonzero, found.other_nonzero, found.shared) == (2, 2, 0)
    assert np.isnan(found.distance)
