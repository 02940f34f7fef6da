"""How MNN's converter is run."""

from pathlib import Path

import pytest

from sparsify.errors import SparsifyError
from sparsify.exporters.mnn import conversion


def test_conversions_at_the_same_time_do_not_share_a_folder(tmp_path, monkeypatch):
    """The converter keeps large weights in a file of a fixed name where it runs."""
    monkeypatch.setattr(conversion, "_PROGRAM", "import os, sys; sys.exit(os.getcwd())")
    folders = set()
    for _ in range(2):
        with pytest.raises(SparsifyError) as raised:
            conversion.convert_onnx(tmp_path / "a.onnx", tmp_path / "a.mnn")
        folders.add(str(raised.value).rpartition(": ")[2])
    assert len(folders | {str(Path.cwd())}) == 3
