"""Front ends that not every format has."""

import onnx
import pytest
from onnx import helper

from sparsify import SparsifyError
from sparsify.exporters.native.front_end import front_end_section
from sparsify.exporters.onnx.front_end import prepend_front_end
from sparsify.recipe.sections import FrontEnd


def test_what_is_not_computed_in_a_format_is_one_sentence():
    front_end = FrontEnd(preset="resemblyzer", num_mel_bins=72)
    with pytest.raises(SparsifyError, match="'resemblyzer': export --format onnx"):
        front_end_section(front_end)
    feats = helper.make_tensor_value_info("feats", onnx.TensorProto.FLOAT, ["B", "T", 72])
    model = helper.make_model(helper.make_graph([], "g", [feats], [feats]))
    with pytest.raises(SparsifyError, match="leave out --with-frontend"):
        prepend_front_end(model, front_end)
