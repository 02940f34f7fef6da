import importlib
import re

import numpy as np
import pytest

from sparsify.audio.features import Filterbank
from sparsify.audio.resampling import resample
from sparsify.corpus.synthetic import draw_voice, speak
from sparsify.errors import SparsifyError
from sparsify.recipe.sections import FrontEnd

FAILURES = [
    ImportError("No module named 'torchaudio'"),
    OSError("libc10_cuda.so: cannot open shared object file: No such file or directory"),
    RuntimeError("Detected that PyTorch and TorchAudio were compiled with different CUDA versions"),
]


@pytest.fixture(params=FAILURES, ids=lambda failure: type(failure).__name__)
def broken_torchaudio(request, monkeypatch):
    def fail(name):
        assert name.startswith("torchaudio")
        raise request.param

    monkeypatch.setattr(importlib, "import_module", fail)
    return request.param


@pytest.mark.parametrize(
    "use",
    [lambda: Filterbank(FrontEnd()), lambda: resample(np.zeros(8000, np.float32), 8000, 16000)],
    ids=["features", "resampling"],
)
def test_a_torchaudio_that_does_not_load_is_one_sentence_with_the_fix(broken_torchaudio, use):
    with pytest.raises(SparsifyError) as caught:
        use()
    message = str(caught.value)
    assert str(broken_torchaudio) in message
    assert re.search(r"pip install .*'torch>=2.11,<2.15' 'torchaudio==2.11.\*'", message)
    assert ("built with CUDA" in message) == isinstance(broken_torchaudio, OSError)
    assert "\n" not in message


def test_what_needs_no_torchaudio_works_without_it(broken_torchaudio):
    rng = np.random.default_rng(0)
    assert len(speak(draw_voice(rng), rng, 1.0, 16000)) == 16000
