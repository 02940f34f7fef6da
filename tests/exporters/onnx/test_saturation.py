"""What processors without VNNI make of int8 graphs, emulated: sums of two products in 16 bits."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from sparsify.exporters.export import QUANTISED_TOLERANCE
from sparsify.exporters.onnx.quantising import quantise_graph
from sparsify.exporters.parity import check_parity
from sparsify.exporters.quantise import Quantisation

LIMITS = -(2**15), 2**15 - 1


class Saturating(OpRun):
    """A layer as `vpmaddubsw` computes it: neighbours in a sum are added in 16 bits."""

    op_domain = "emulated"

    def _run(self, x, scale, zero, w, steps, bias=None, dilation=None, padding=None):
        padded = np.pad(
            x.reshape(*x.shape[:2], -1).astype(np.int32),
            [(0, 0), (0, 0), (padding, padding)],
            constant_values=int(zero),
        )
        taps = w.reshape(*w.shape[:2], -1).shape[2]
        length = padded.shape[2] - dilation * (taps - 1)
        shifted = [padded[:, :, tap * dilation :][:, :, :length] for tap in range(taps)]
        columns = np.stack(shifted, axis=2).reshape(len(x), -1, length)
        rows = w.reshape(len(w), -1).astype(np.int32)
        odd = rows.shape[1] % 2
        columns = np.pad(columns, [(0, 0), (0, odd), (0, 0)])
        rows = np.pad(rows, [(0, 0), (0, odd)])
        sums = np.empty((len(x), len(w), length))
        for channel, row in enumerate(rows):
            products = columns * row[:, None]
            pairs = np.clip(products[:, ::2] + products[:, 1::2], *LIMITS)
            sums[:, channel] = pairs.sum(axis=1) - int(zero) * row.sum()
        values = sums * (scale * steps)[:, None] + (0 if bias is None else bias[:, None])
        return (values.reshape(len(x), len(w), *x.shape[2:]).astype(np.float32),)


def saturating(model):
    """A graph of ours, of one-dimensional convolutions, on such a processor."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    makers = {name: node for node in copy.graph.node for name in node.output}
    for node in copy.graph.node:
        if node.op_type not in ("Conv", "Gemm"):
            continue
        values, weights = (makers.get(name) for name in node.input[:2])
        if not all(each and each.op_type == "DequantizeLinear" for each in (values, weights)):
            continue  # it stays in float32
        found = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        inputs = [*values.input, *weights.input[:2], *node.input[2:]]
        dilation, padding = found.get("dilations", [1])[0], found.get("pads", [0])[0]
        node.CopyFrom(
            helper.make_node(
                "Saturating",
                inputs,
                node.output,
                domain="emulated",
                dilation=dilation,
                padding=padding,
            )
        )
    copy.opset_import.append(helper.make_opsetid("emulated", 1))
    return network(copy)


def network(model):
    evaluator = ReferenceEvaluator(model, new_ops=[Saturating])
    return lambda feats: evaluator.run(None, {"feats": feats})[0]


RNG = np.random.default_rng(0)
FEATS = [RNG.normal(scale=3, size=(50, 16)).astype(np.float32) for _ in range(8)]


def graph(weights):
    """Two convolutions, a mean over time and a matrix."""
    node = helper.make_node
    nodes = [
        node("Transpose", ["feats"], ["t"], name="0", perm=[0, 2, 1]),
        node("Conv", ["t", "first"], ["a"], name="1", pads=[2, 2], dilations=[2]),
        node("Relu", ["a"], ["b"], name="2"),
        node("Conv", ["b", "second"], ["c"], name="3"),
        node("Relu", ["c"], ["d"], name="4"),
        node("ReduceMean", ["d"], ["e"], name="5", axes=[2], keepdims=0),
        node("Gemm", ["e", "last"], ["embs"], name="6", transB=1),
    ]
    ends = (("feats", ("B", "T", 16)), ("embs", ("B", 8)))
    feats, embs = (helper.make_tensor_value_info(n, TensorProto.FLOAT, dims) for n, dims in ends)
    constants = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    made = helper.make_graph(nodes, "g", [feats], [embs], constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def emulated(reduce_range, first, feats):
    """How the emulated graph compares, and the largest level of a weight."""

    def normal(*shape):
        return RNG.normal(size=shape).astype(np.float32)

    second = np.where(normal(32, 32, 1) < 0, np.float32(-1), np.float32(1))
    weights = {"first": first(normal(32, 16, 3)), "second": second, "last": normal(8, 32)}
    how = Quantisation(tuple(feats), tuple(feats), reduce_range)
    work = {"first": 1, "second": 100, "last": 1}
    quantised, _ = quantise_graph(graph(weights), how, work)
    quantised.opset_import[0].version = 19  # the first in which the reference knows them
    batches = [each[None] for each in feats]
    parity = check_parity(
        network(quantised), saturating(quantised), tolerance=QUANTISED_TOLERANCE, batches=batches
    )
    levels = [numpy_helper.to_array(t) for t in quantised.graph.initializer if t.data_type == 3]
    return parity, max(int(np.abs(each.astype(int)).max()) for each in levels)


def test_sums_that_saturate_everywhere_are_refused():
    """All values are near the end of their range, and so are all weights."""
    parity, _ = emulated(False, np.abs, [np.abs(each) / 9 + 3 for each in FEATS])
    assert not parity.passed


def test_saturation_here_and_there_passes_as_it_changes_little():
    parity, highest = emulated(False, np.asarray, FEATS)
    assert highest == 127
    assert parity.passed
    assert parity.max_abs_error > 0


def test_seven_bits_never_saturate():
    for first, feats in ((np.abs, [np.abs(each) / 9 + 3 for each in FEATS]), (np.asarray, FEATS)):
        parity, highest = emulated(True, first, feats)
        assert 2 * 255 * highest <= LIMITS[1]
        assert parity.passed
        assert parity.max_abs_error < 1e-3
