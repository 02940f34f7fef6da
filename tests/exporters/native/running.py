"""Programs for the engine without the tracer, and all frames of what they compute."""

from types import SimpleNamespace

import numpy as np
import sympy

from sparsify.exporters.native import lowering  # noqa: F401 - it fills the table
from sparsify.exporters.native.buffers import row_ids
from sparsify.exporters.native.engine import workspace
from sparsify.exporters.native.operators import Lowering
from sparsify.exporters.native.program import write_program
from sparsify.exporters.native.steps import Input, Value
from sparsify.exporters.native.table import OPERATORS

T = sympy.Symbol("T", integer=True, positive=True)
LINE, GROUP, PANEL = 16, 8, 64


class Building(Lowering):
    """Lowers operators one by one; `feats` are features `(1, T, bins)`."""

    def __init__(self, bins):
        super().__init__()
        target = self.buffer(1, bins, T)
        self.steps.steps.append(Input(target))
        self.feats = Value(row_ids(target, np.arange(bins)).reshape(1, 1, bins), 1, T)

    def call(self, operator, *arguments, shape=(), **options):
        """An operator whose result has a shape."""
        sizes = [
            each if isinstance(each, int) else SimpleNamespace(node=SimpleNamespace(expr=each))
            for each in shape
        ]
        node = SimpleNamespace(target=operator, meta={"val": SimpleNamespace(shape=sizes)})
        return OPERATORS[operator](self, *arguments, node=node, **options)

    def program(self, values, choose=lambda step: 1, half=False):
        """The blob that keeps all rows of some values."""
        self.steps.output = np.concatenate([each.rows.reshape(-1) for each in values])
        (source,) = (step.target for step in self.steps.steps if isinstance(step, Input))
        return write_program(
            self.steps,
            feature_dim=source.rows,
            sample_rate=0,
            front_end=b"",
            choose=choose,
            half=half,
        )


def call(engine, blob, feats, memory=None):
    """Runs a blob: the error code, the embedding and the workspace."""
    feats = np.ascontiguousarray(feats, np.float32)
    if memory is None:
        memory = workspace(engine.call("sparsify_blob_workspace", blob, len(feats), 1))
        memory.view(np.float32)[:] = np.nan
    embedding = np.full(np.frombuffer(blob, np.int32, 4)[3], np.nan, np.float32)
    code = engine.call(
        "sparsify_blob_embed", blob, feats, len(feats), memory, memory.nbytes, embedding
    )
    return code, embedding, memory


def all_frames(engine, blob, feats, counts):
    """All rows of the output, each with as many frames as `counts` says."""
    code, _, memory = call(engine, blob, feats)
    assert code == 0
    header = np.frombuffer(blob, np.int32, 16)
    lines, scalar_lines = int(header[5]), int(header[6])
    at = np.frombuffer(blob, np.int32, header[3], 64 * int(header[14]))
    floats = memory.view(np.float32)
    found = []
    for line, frames in zip(at, counts, strict=True):
        panels = -(-frames // PANEL)
        each, longer = divmod(-(-frames // GROUP), panels)
        parts = []
        for panel in range(panels):
            groups = each + (panel < longer)
            begin = (scalar_lines + panel * lines + line) * LINE
            row = floats[begin : begin + groups * GROUP]
            parts.append(row.reshape(groups, GROUP).T.reshape(-1))
        found.append(np.concatenate(parts)[:frames])
    return found
