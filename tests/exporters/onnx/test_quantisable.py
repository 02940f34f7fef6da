"""Graphs of ours as other tools find them: they can be quantised, whatever the architecture."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnxruntime.quantization import quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process

from sparsify.artifact.loading import load_artifact
from sparsify.artifact.saving import save_model
from sparsify.exporters.onnx.writing import export_onnx
from sparsify.models.registry import build_model
from sparsify.sparsity.masks import largest_masks
from sparsify.sparsity.prunable import prunable_parameters

OPTIONS = {"feature_dim": 24, "embedding_dim": 8}
SMALL = [
    ("ecapa-tdnn", {"channels": 16, "aggregation_channels": 32}),
    ("ecapa-tdnn", {"channels": 8, "aggregation_channels": 16, "variant": "speechbrain"}),
    ("resnet18", {"channels": 4, "pooling": "attentive"}),
    ("resnet50", {"channels": 2}),
]


@pytest.mark.parametrize(("name", "options"), SMALL)
def test_other_tools_quantise_what_is_exported(tmp_path, name, options):
    model = build_model(name, **OPTIONS, **options)
    weights = prunable_parameters(model)
    for weight in weights.values():
        weight.data *= largest_masks([weight.detach().abs()], 0.5)[0]
    save_model(model, tmp_path / "m.safetensors")
    export_onnx(load_artifact(tmp_path / "m.safetensors"), tmp_path / "m.onnx")
    graph = onnx.load(tmp_path / "m.onnx").graph
    used = {node.input[1] for node in graph.node if node.op_type in ("Conv", "Gemm")}
    assert used == weights.keys()  # whole, and as they are called
    # Older versions of these tools stumble over shapes told twice and over lengths of one axis.
    assert not {each.name for each in graph.value_info} & {each.name for each in graph.initializer}
    assert not any(node.attribute for node in graph.node if node.op_type == "Shape")

    quant_pre_process(tmp_path / "m.onnx", tmp_path / "prepared.onnx")
    for prepared in ("m", "prepared"):
        quantize_dynamic(tmp_path / f"{prepared}.onnx", tmp_path / "q.onnx")
        quantised = onnx.load(tmp_path / "q.onnx").graph.initializer
        integers = [numpy_helper.to_array(each) for each in quantised if each.data_type in (2, 3)]
        assert sum(each.size for each in integers if each.ndim > 1) == sum(
            weight.numel() for weight in weights.values()
        )
        assert any(np.ptp(each) for each in integers)
