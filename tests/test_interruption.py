"""Ctrl-C reaches compiled code."""

import os
import signal
import threading
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sparsify import interruption
from sparsify.exporters.onnx.session import onnx_network

MANY = 100_000_000  # a minute or more, so that a failure does not last for ever


def long_model(path):
    """A graph that takes sines again and again."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["kept"]), helper.make_node("Sin", ["a"], ["b"])],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("a", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("kept", TensorProto.BOOL, []),
            helper.make_tensor_value_info("b", TensorProto.FLOAT, None),
        ],
    )
    nodes = [
        helper.make_node("Loop", ["times", "on", "feats"], ["looped"], body=body),
        helper.make_node("ReduceMean", ["looped"], ["embs"], axes=[1], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("feats", TensorProto.FLOAT, ["B", "T", 80])],
        [helper.make_tensor_value_info("embs", TensorProto.FLOAT, ["B", 80])],
        [
            numpy_helper.from_array(np.array(MANY), "times"),
            numpy_helper.from_array(np.array(True), "on"),
        ],
    )
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    return path


@pytest.fixture
def ctrl_c():
    """Presses it as soon as compiled code can be stopped."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # be it ignored

    def press():
        while not interruption._STOPS:
            time.sleep(0.01)
        time.sleep(0.2)  # until it computes
        os.kill(os.getpid(), signal.SIGINT)

    yield threading.Thread(target=press)
    signal.signal(signal.SIGINT, before)


def test_a_graph_of_others_that_goes_on_and_on_is_interrupted(tmp_path, ctrl_c):
    network = onnx_network(long_model(tmp_path / "m.onnx"), threads=1)
    interruption.listen()
    ctrl_c.start()
    with pytest.raises(KeyboardInterrupt) as caught:
        network(np.zeros((1, 20, 80), dtype=np.float32))
    assert "terminate flag" in str(caught.value.__context__)  # it did not come to its end
