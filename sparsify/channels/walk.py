"""From a tape to the channels of a network: each element of an activation carries its channel."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from sparsify.channels.atoms import (
    ANY,
    FIXED,
    Ids,
    differ,
    joined,
    per_slice,
    spread,
    spreads,
)
from sparsify.channels.operators import (
    AFFINE,
    BATCH_NORMS,
    CONVOLUTION,
    INDEXED,
    MATRIX,
    REDUCTIONS,
    SOFTMAX,
    SUM,
    TOTAL,
    VIEWS,
    axes_of,
    is_pointwise,
)
from sparsify.channels.parts import Part, Parts
from sparsify.channels.structure import Joint, Loss, Site, Structure
from sparsify.channels.tape import Call, Tape
from sparsify.models.layers import Sum


def structure_of(tape: Tape, model: nn.Module) -> Structure:
    """Follows the channels of a network.

    What is not known to keep channels apart fixes those that it is given.

    Args:
        tape: Of the network.
        model: The network.
    """
    return _Walk(tape, model).structure


class _Walk:
    def __init__(self, tape: Tape, model: nn.Module) -> None:
        self.tape, self.model = tape, model
        self.structure = Structure()
        self.atoms = self.structure.atoms
        self.ids: dict[int, Ids] = {}
        self.parts = Parts(tape, self.structure)
        tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        self.constants = {n: tensors[name] for name, n in tape.parameters.items()} | tape.constants
        self.ids[tape.feats] = np.full(tape.shapes[tape.feats], FIXED)
        for call in tape.calls:
            self._follow(call)
            for number in call.outputs:
                if number in self.ids:
                    self.structure.tensors.append(np.unique(self.ids[number]))
        self.atoms.fix(self.ids.get(tape.output, np.array([FIXED])))
        self._keep_shared()

    def _keep_shared(self) -> None:
        """What several layers share keeps its channels."""
        names: dict[int, list[str]] = {}
        for name, parameter in self.model.named_parameters(remove_duplicate=False):
            names.setdefault(id(parameter), []).append(name)
        shared = {first: others for first, *others in names.values() if others}
        for (name, axis), ids in self.structure.axes.items():
            if name in shared:
                number = self.tape.parameters[name]
                what = f"what '{name}' and '{shared[name][0]}' share"
                everywhere = spread(ids, axis, self.tape.shapes[number])
                self.structure.losses.append(Loss(what, number, everywhere))
                self.atoms.fix(ids)

    def _follow(self, call: Call) -> None:
        moving = [number for number in call.inputs if number in self.ids]
        if not moving:
            if call.op in VIEWS:
                self.parts.follow(call)
            return
        op = call.op
        if op in VIEWS:
            self._move(call)
        elif op in BATCH_NORMS:
            self._norm(call)
        elif op is CONVOLUTION:
            self._convolve(call)
        elif op in (MATRIX, AFFINE):
            self._multiply(call)
        elif op in REDUCTIONS or op is SOFTMAX:
            self._reduce(call)
        elif is_pointwise(op):
            self._combine(call)
        else:
            self._lose(call)

    def _lose(self, call: Call) -> None:
        """What is not known keeps all channels that it sees."""
        for number in call.inputs:
            self._fix(call, number)
        for number in call.outputs:
            self.ids[number] = np.full(self.tape.shapes[number], FIXED)

    def _fix(self, call: Call, number: int) -> None:
        if number in self.ids:
            self._tell(call, number)
            self.atoms.fix(self.ids[number])

    def _tell(self, call: Call, number: int) -> None:
        op = str(getattr(call.op, "overloadpacket", call.op)).removeprefix("aten.")
        where = f"'{call.module}'" if call.module else "the network itself"
        self.structure.losses.append(Loss(f"'{op}' in {where}", number, self.ids[number]))

    def _move(self, call: Call) -> None:
        if any(number in self.ids for number in call.inputs[1:]) and call.op in INDEXED:
            return self._lose(call)
        views = call.moved(self._moved, float(ANY))
        for number, view in zip(call.outputs, views, strict=True):
            self.ids[number] = view.long().numpy()
        return None

    def _moved(self, number: int) -> Tensor:
        """What takes the place of a tensor where elements are only put elsewhere."""
        if number in self.ids:
            return torch.tensor(self.ids[number], dtype=torch.float64)
        constant = self.constants.get(number)
        if constant is not None and constant.dtype == torch.int64:
            return constant
        return torch.full(self.tape.shapes[number], float(ANY), dtype=torch.float64)

    def _combine(self, call: Call) -> None:
        shape = self.tape.shapes[call.outputs[0]]
        if call.op is SUM and isinstance(self.model.get_submodule(call.module), Sum):
            return self._join(call, shape)
        result = np.full(shape, ANY)
        moving = [number for number in call.inputs if number in self.ids]
        for number in moving:
            result = joined(result, np.broadcast_to(self.ids[number], shape))
        for number in call.inputs:
            if number not in self.ids:
                self._attach_broadcast(call, number, result)
                continue
            own = self.ids[number]
            if (result[np.broadcast_to(own, shape) == FIXED] >= 0).any():
                for other in moving:
                    self._tell(call, other)
            if spreads(own, result):  # over channels: it belongs to none of them
                self._fix(call, number)
            else:
                self.atoms.tie(np.broadcast_to(own, shape), result)
        self.ids[call.outputs[0]] = result
        return None

    def _attach_broadcast(self, call: Call, number: int, result: Ids) -> None:
        """Finds the channels that a parameter belongs to which is added or multiplied."""
        part = self.parts.get(number)
        size = self.tape.shapes[number]
        shape = (1,) * (result.ndim - len(size)) + tuple(size)
        wide = [axis for axis, length in enumerate(shape) if length > 1]
        apart = [axis for axis in wide if differ(result, (axis,))]
        ids = per_slice(result, apart[0]) if len(apart) == 1 else None
        if not apart:
            return
        if part is None or ids is None or len(wide) > 1:
            for each in call.inputs:
                self._fix(call, each)
            self.atoms.fix(result)
        else:
            self.parts.attach(part, ids)

    def _join(self, call: Call, shape: tuple[int, ...]) -> None:
        path = call.module
        operands = (call.inputs[0], call.inputs[1])
        reads = tuple(per_slice(np.broadcast_to(self.ids[n], shape), 1) for n in operands)
        first, second = reads
        if first is None or second is None or (first == FIXED).any() or (second == FIXED).any():
            return self._lose(call)
        makes = self.atoms.new(shape[1])
        self.structure.joints.append(Joint(path, operands, (first, second), makes))
        self.ids[call.outputs[0]] = spread(makes, 1, shape)
        return None

    def _norm(self, call: Call) -> None:
        x = call.inputs[0]
        ids = self._channels(call, x, 1)
        self.ids[call.outputs[0]] = self.ids[x]
        for number in call.inputs[1:]:
            self.parts.attach(self.parts.get(number), ids)
        for number in call.outputs[1:]:
            self.ids[number] = np.full(self.tape.shapes[number], FIXED)

    def _convolve(self, call: Call) -> None:
        x, weight = call.inputs[:2]
        transposed, groups = call.args[6], call.args[8]
        part = self.parts.get(weight)
        out = self.tape.shapes[call.outputs[0]]
        if part is None or weight in self.ids or transposed:
            return self._lose(call)
        reads = self._channels(call, x, 1)
        bias = call.inputs[2] if len(call.inputs) > 2 else None
        depthwise = groups == len(reads) == out[1]
        if depthwise:
            makes = reads
            self.parts.attach_rows(part, reads)
        elif groups != 1:
            return self._lose(call)
        else:
            makes = self.atoms.new(out[1])
            padded = any(call.args[4])
            self._site(call, part, makes, reads, None if padded else bias, transposed=False)
        self.parts.attach(self.parts.get(bias), makes)
        self.ids[call.outputs[0]] = spread(makes, 1, out)
        return None

    def _multiply(self, call: Call) -> None:
        x, weight = call.inputs[-2:]
        bias = call.inputs[0] if call.op is AFFINE else None
        part = self.parts.get(weight)
        out = self.tape.shapes[call.outputs[0]]
        scaled = call.kwargs or len(call.args) > (3 if call.op is AFFINE else 2)
        if part is None or weight in self.ids or x not in self.ids or bias in self.ids or scaled:
            return self._lose(call)
        makes = self.atoms.new(out[1])
        reads = self._channels(call, x, 1)
        self._site(call, part, makes, reads, bias, transposed=True)
        self.parts.attach(self.parts.get(bias), makes)
        self.ids[call.outputs[0]] = spread(makes, 1, out)
        return None

    def _reduce(self, call: Call) -> None:
        x, output = call.inputs[0], call.outputs[0]
        ids = self.ids[x]
        if call.op is SOFTMAX:
            axes = [call.args[1] % ids.ndim]
        else:
            axes = axes_of(call.args, dict(call.kwargs), ids.ndim)
        mixed = differ(ids, tuple(axes))
        if mixed and call.op is TOTAL and len(axes) == 1:
            reads = per_slice(ids, axes[0])
            if reads is not None:
                site = Site(call.module, x, axes[0], None, False, None, reads, np.array([FIXED]))
                self.structure.sites.append(site)
                self.ids[output] = np.full(self.tape.shapes[output], FIXED)
                return None
        if mixed:
            return self._lose(call)
        if call.op is not SOFTMAX:
            ids = ids.max(axis=tuple(axes)).reshape(self.tape.shapes[output])
        self.ids[output] = ids
        return None

    def _channels(self, call: Call, number: int, axis: int) -> Ids:
        """The channels of an activation along an axis; those stay that are mixed there."""
        ids = per_slice(self.ids[number], axis)
        if ids is None:
            self._fix(call, number)
            ids = np.full(self.tape.shapes[number][axis], FIXED)
        return ids

    def _site(
        self, call: Call, part: Part, makes: Ids, reads: Ids, bias: int | None, *, transposed: bool
    ) -> None:
        """Notes that a weight reads channels, and makes others."""
        x, weight = call.inputs[-2:] if transposed else call.inputs[:2]
        self.parts.attach_matrix(part, makes, reads, transposed=transposed)
        added = self.parts.get(bias)
        named = added.name if added and added.places.shape == (len(makes),) else None
        self.structure.sites.append(
            Site(call.module, x, 1, weight, transposed, named, reads, makes)
        )
