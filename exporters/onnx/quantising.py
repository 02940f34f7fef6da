"""Static int8: layers between QuantizeLinear and DequantizeLinear, made by onnxruntime's tools.

Weights are signed, symmetric, with a scale for each output channel, so that zeros stay zeros;
activations are unsigned, with ranges measured on speech.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantType,
    create_calibrator,
)
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from sparsify.errors import SparsifyError
from sparsify.exporters.onnx.folding import fold_dead_channels, fold_norms
from sparsify.exporters.onnx.session import onnx_network
from sparsify.exporters.quantise import Quantisation
from sparsify.exporters.quiet import quiet
from sparsify.verification.embedding import Embedding

logger = logging.getLogger(__name__)

FLOAT_SHARE = 0.1
"""Share of the multiply-adds that may stay in float32."""
_OUT_OF_PROPORTION = 3
_LAYERS = ("Conv", "Gemm")
_TYPES = [*_LAYERS, "Relu"]  # what a ReLU puts out is rounded, instead of what goes into it
_PROBES = 8  # utterances that each layer is measured on
_QUANTISED, _DEQUANTISED = "_quantized", "_dequantized"


@dataclass(frozen=True)
class Quantised:
    """What became of a graph, beside the graph.

    Attributes:
        float_layers: Weights that stayed in float32, those that lose most first.
        distance: Mean of one minus the cosine between embeddings of the graph and of the original,
            on speech.
        distance_of_all: The same, had all layers been quantised.
        reduce_range: Whether weights take seven bits.
        utterances: How many tell the ranges.
    """

    float_layers: tuple[str, ...]
    distance: float
    distance_of_all: float
    reduce_range: bool
    utterances: int


def quantise_graph(
    model: onnx.ModelProto, how: Quantisation, work: Mapping[str, int]
) -> tuple[onnx.ModelProto, Quantised]:
    """An int8 graph of a float32 one, which is changed.

    Each layer is quantised alone first. Those that lose far more than their share stay in float32,
    see `costly_layers`.

    Args:
        model: A graph of ours.
        how: Ranges of activations come from this.
        work: Multiply-adds of each weight.

    Raises:
        SparsifyError: A zero did not survive, or there is nothing to quantise.
    """
    with TemporaryDirectory() as folder, quiet(""):
        quantiser = _Quantiser(model, how, Path(folder))
        errors = dict(quantiser.distances_alone(work.keys()))
        costly = costly_layers(errors, work)
        whole = quantiser.distance(quantiser.graph())
        graph = quantiser.graph(leave_out=costly)
        distance = quantiser.distance(graph)
        _check_zeros(quantiser.model, graph)
    for name in costly:
        logger.info("%s stays in float32: alone it moves embeddings by %.2g", name, errors[name])
    found = Quantised(tuple(costly), distance, whole, how.reduce_range, len(how.features))
    return graph, found


def costly_layers(errors: Mapping[str, float], work: Mapping[str, int]) -> list[str]:
    """The layers whose share of the errors is three times that of the multiply-adds, or more.

    Those with the most error per multiply-add come first, until they are `FLOAT_SHARE` of all
    multiply-adds; one that is too large for what is left of that is passed over. Shares are those
    of the layers that have not been taken, lest one very costly layer hide all others.

    Args:
        errors: What quantising each layer alone does.
        work: Multiply-adds of each layer.
    """
    error, macs = sum(errors.values()), sum(work[name] for name in errors)
    left, costly = FLOAT_SHARE * macs, []
    for name in sorted(errors, key=lambda name: errors[name] / work[name], reverse=True):
        out_of_proportion = errors[name] * macs > _OUT_OF_PROPORTION * error * work[name]
        if out_of_proportion and work[name] <= left:
            costly.append(name)
            left -= work[name]
            error -= errors[name]
            macs -= work[name]
    return costly


class _Quantiser:
    """Makes int8 graphs of one float32 graph."""

    def __init__(self, model: onnx.ModelProto, how: Quantisation, folder: Path) -> None:
        self._folder, self._how = folder, how
        self._bins = how.features[0].shape[1]
        self._probes = how.features[:_PROBES]
        self._reference = self._embeddings(model)
        fold_norms(model)
        fold_dead_channels(model)
        self.model = onnx.shape_inference.infer_shapes(model)
        self._nodes = defaultdict[str, list[str]](list)  # a weight may serve several
        for node in self.model.graph.node:
            if node.op_type in _LAYERS:
                self._nodes[node.input[1]].append(node.name)
        if not self._nodes:
            raise SparsifyError(
                "the network has no layer that could be int8: leave out --precision"
            )
        self._ranges = self._measured_ranges()

    def distances_alone(self, weights: Collection[str]) -> Iterator[tuple[str, float]]:
        """What quantising each layer alone does, by its weight."""
        layers = [name for name in self._nodes if name in weights]
        for name in self._how.track(layers, "Quantising layers one at a time", len(layers)):
            yield name, self.distance(self.graph(only=[name]))

    def graph(self, only: Sequence[str] = (), leave_out: Sequence[str] = ()) -> onnx.ModelProto:
        """The graph with some, or with all but some, of its layers in int8."""
        copy = onnx.ModelProto()
        copy.CopyFrom(self.model)
        quantiser = QDQQuantizer(
            copy,
            per_channel=True,
            reduce_range=self._how.reduce_range,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=self._ranges,
            nodes_to_quantize=[node for name in only for node in self._nodes[name]],
            nodes_to_exclude=[node for name in leave_out for node in self._nodes[name]],
            op_types_to_quantize=_TYPES,
            extra_options={"WeightSymmetric": True, "ActivationSymmetric": False},
        )
        quantiser.quantize_model()
        quantiser.model.topological_sort()
        graph = quantiser.model.model
        del graph.graph.value_info[:]
        _restore_names(graph, {each.name for each in self.model.graph.initializer})
        return graph

    def distance(self, graph: onnx.ModelProto) -> float:
        """Mean of one minus the cosine to the embeddings of the original."""
        pairs = zip(self._embeddings(graph), self._reference, strict=True)
        return float(np.mean([1 - _cosine(one, other) for one, other in pairs]))

    def _embeddings(self, graph: onnx.ModelProto) -> list[Embedding]:
        path = self._folder / "probe.onnx"
        onnx.save(graph, path)
        network = onnx_network(path, self._bins)
        return [network(each[None])[0] for each in self._probes]

    def _measured_ranges(self) -> TensorsData:
        path = self._folder / "float.onnx"
        onnx.save(self.model, path)
        calibrator = create_calibrator(
            path,
            _TYPES,
            augmented_model_path=str(self._folder / "augmented.onnx"),
            calibrate_method=CalibrationMethod.MinMax,
        )
        calibrator.collect_data(_Speech(self._how, self._input))
        return calibrator.compute_data()

    @property
    def _input(self) -> str:
        return str(self.model.graph.input[0].name)


class _Speech(CalibrationDataReader):  # type: ignore[misc, unused-ignore]
    """Utterances, as onnxruntime's tools ask for them."""

    def __init__(self, how: Quantisation, name: str) -> None:
        self._name = name
        description = "Measuring ranges of activations"
        self._left = iter(how.track(how.features, description, len(how.features)))

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The next one, nothing after the last."""
        features = next(self._left, None)
        return None if features is None else {self._name: features[None]}


def _restore_names(model: onnx.ModelProto, names: Collection[str]) -> None:
    """Gives a quantised tensor the name of the float one, which its dequantised copy may have."""
    graph = model.graph
    quantised = {each.name for each in graph.initializer if each.name.endswith(_QUANTISED)}
    new = {name: name.removesuffix(_QUANTISED) for name in quantised}
    new = {name: original for name, original in new.items() if original in names}
    taken = {original: f"{original}{_DEQUANTISED}" for original in new.values()}
    for initializer in graph.initializer:
        initializer.name = new.get(initializer.name, initializer.name)
    for node in graph.node:
        inputs = [new.get(name, taken.get(name, name)) for name in node.input]
        outputs = [taken.get(name, name) for name in node.output]
        del node.input[:], node.output[:]
        node.input.extend(inputs)
        node.output.extend(outputs)


def _check_zeros(original: onnx.ModelProto, quantised: onnx.ModelProto) -> None:
    """Refuses a graph in which a weight that was zero is not, against its zero point."""
    weights = {each.name: each for each in original.graph.initializer if len(each.dims) > 1}
    tensors = {each.name: numpy_helper.to_array(each) for each in quantised.graph.initializer}
    for node in quantised.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in weights:
            name = node.input[0]
            zeros = numpy_helper.to_array(weights[name]) == 0
            if tensors[name][zeros].any() or tensors[node.input[2]].any():
                raise SparsifyError(f"zeros of the weight '{name}' did not survive quantisation")


def _cosine(one: Embedding, other: Embedding) -> float:
    a, b = one.astype(np.float64), other.astype(np.float64)
    norm = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / norm) if norm else 1.0
