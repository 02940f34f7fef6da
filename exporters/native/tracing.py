"""A network as a graph of PyTorch's core operators, for any number of frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves
from torch.utils.hooks import RemovableHandle

from sparsify.errors import SparsifyError, first_line
from sparsify.exporters.native.decompositions import TracedResizing, decompositions
from sparsify.exporters.native.paths import called, difference, modules_of
from sparsify.exporters.quiet import quiet

# So long that no length in the network is 1, which the tracer would take for a constant.
_EXAMPLE_FRAMES = 1024
_LEAST_FRAMES = 256


@dataclass(frozen=True)
class Trace:
    """A traced network.

    Attributes:
        graph: Its operators; one input is the features `(1, T, bins)`.
        constants: Weights and other tensors, by the names of their placeholders.
        sources: What each of them is called in the network, as far as it is a part of that.
        feats: The placeholder of the features.
        output: What the network returns.
        differs: What in the network does something else with another number of frames, in words;
            none if nothing of that kind was found.
    """

    graph: fx.Graph
    constants: dict[str, Tensor]
    sources: Mapping[str, str]
    feats: fx.Node
    output: fx.Node
    differs: str | None = None

    def of(self, model: nn.Module) -> Trace:
        """The same for another network of this architecture, which only its weights tell apart."""
        tensors = {
            **dict(model.named_parameters(remove_duplicate=False)),
            **dict(model.named_buffers(remove_duplicate=False)),
        }
        own = {name: tensors[source].detach() for name, source in self.sources.items()}
        return replace(self, constants=self.constants | own)


def trace(model: nn.Module, bins: int, name: str) -> Trace:
    """Traces a network for one utterance of any length.

    Args:
        model: Maps features `(B, T, bins)` to embeddings `(B, D)`; put into eval mode.
        bins: Features of a frame.
        name: What the network is called in errors.

    Raises:
        SparsifyError: It cannot be traced, or returns something else.
    """
    model.eval()
    for path, module in model.named_modules():
        if isinstance(module, nn.RNNBase):  # the tracer would write out every frame, for a minute
            raise SparsifyError(
                f"the native engine cannot run '{name}': operator '{type(module).__name__}' of"
                f" '{path}' is none of those that it has; export --format onnx instead"
            )
    frames = torch.export.Dim("T", min=_LEAST_FRAMES)
    watch = _Watch(model)
    try:
        with quiet("torch"), watch, TracedResizing():
            exported = torch.export.export(
                model,
                (torch.zeros(1, _EXAMPLE_FRAMES, bins),),
                dynamic_shapes=({1: frames},),
                strict=False,
                prefer_deferred_runtime_asserts_over_guards=True,
            )
            program = exported.run_decompositions(decompositions())
    except Exception as error:
        raise SparsifyError(
            f"the native engine cannot run '{name}': {watch.found()} cannot be traced for any"
            f" number of frames ({first_line(error)}); export --format onnx instead"
        ) from error
    signature = program.graph_signature
    written = [*signature.buffers_to_mutate.values()]
    if written:
        raise SparsifyError(
            f"the native engine cannot run '{name}': it writes into its buffer '{written[0]}'"
        )
    constants: dict[str, Tensor] = {}
    sources = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    for placeholder, target in {
        **sources,
        **signature.inputs_to_lifted_tensor_constants,
    }.items():
        stored = program.state_dict.get(target, program.constants.get(target))
        assert isinstance(stored, Tensor)
        constants[placeholder] = stored.detach()
    inputs = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    made = {node.name: node for node in program.graph.nodes}
    returned = [made.get(str(each)) for each in signature.user_outputs]
    if len(signature.user_inputs) != 1 or len(returned) != 1 or returned[0] is None:
        raise SparsifyError(f"'{name}' must map one tensor to one tensor")
    return Trace(
        program.graph,
        constants,
        sources,
        inputs[str(signature.user_inputs[0])],
        returned[0],
        difference(model, program.graph_module, constants, bins, _EXAMPLE_FRAMES),
    )


class _Watch:
    """Notes the module with which tracing fails: the innermost that raises an error or makes the
    number of frames a constant.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.running: list[str] = []
        self.binding: str | None = None
        self.handles: list[RemovableHandle] = []

    def __enter__(self) -> None:
        for name, module in self.model.named_modules():
            self.handles += [
                module.register_forward_pre_hook(partial(self._begins, name)),
                module.register_forward_hook(partial(self._ends, name)),
            ]

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()

    def found(self) -> str:
        """The module, in words."""
        path = self.binding if self.binding is not None else (self.running or [""])[-1]
        return called(self.model, path)

    def _begins(self, name: str, *_: object) -> None:
        self.running.append(name)

    def _ends(self, name: str, module: nn.Module, inputs: Any, outputs: Any) -> None:
        self.running.pop()
        if self.binding is None and any(_is_bound(each) for each in tree_leaves((inputs, outputs))):
            self.binding = name


def _is_bound(item: Any) -> bool:
    """Whether the tracer has narrowed the range of the number of frames."""
    ranges = getattr(getattr(item, "fake_mode", None), "shape_env", None)
    known = getattr(ranges, "var_to_range", {})
    return any(each.lower > _LEAST_FRAMES or each.upper == each.lower for each in known.values())


def layer_of(node: fx.Node) -> str:
    """The name of the module that an operator belongs to, such as `layer1.conv`."""
    stack = modules_of(node)
    return stack[-1] if stack and stack[-1] else "the network itself"
