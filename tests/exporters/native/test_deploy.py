"""What docs/deploy.md tells to do works: a C program on arm64, with the library by CMake."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from sparsify.artifact.loading import load_artifact
from sparsify.audio.features import Filterbank

from .conftest import ARM64

TEXT = (Path(__file__).parents[3] / "docs" / "deploy.md").read_text("utf-8")
(PROGRAM,) = re.findall(r"```c\n(.*?)```", TEXT, flags=re.DOTALL)
TOOLCHAIN = """
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
"""


@pytest.fixture(scope="module")
def folder(exported_for):
    for tool in ("cmake", *ARM64):
        if shutil.which(tool) is None:
            pytest.skip(f"there is no {tool}")
    return exported_for("arm64")


def test_a_program_averages_blocks_on_arm64(folder, tmp_path):
    (tmp_path / "toolchain.cmake").write_text(TOOLCHAIN)
    build = tmp_path / "build"
    options = ["-DBUILD_SHARED_LIBS=ON", "-DCMAKE_BUILD_TYPE=Debug"]
    options.append(f"-DCMAKE_TOOLCHAIN_FILE={tmp_path / 'toolchain.cmake'}")
    for command in (["-S", folder, "-B", build, *options], ["--build", build]):
        subprocess.run(["cmake", *command], check=True, capture_output=True)
    (tmp_path / "speaker.c").write_text(PROGRAM)
    compiler, emulator = ARM64
    program = tmp_path / "speaker"
    libraries = [build / "libmodel.so", "-lm"]
    warnings = ["-Wall", "-Wextra", "-Werror"]
    command = [compiler, "-O1", *warnings, f"-I{folder}", tmp_path / "speaker.c", *libraries]
    subprocess.run([*command, "-o", program], check=True)

    rng = np.random.default_rng(0)
    # Two blocks; and three, the last of which is a rest that does not count.
    recordings = [rng.normal(scale=0.1, size=16000 * n) for n in (14, 21)]
    paths = []
    for number, samples in enumerate(recordings):
        paths.append(tmp_path / f"{number}.f32")
        samples.astype(np.float32).tofile(paths[-1])
    run = [emulator, "-L", "/usr/aarch64-linux-gnu", "-E", f"LD_LIBRARY_PATH={build}", program]
    found = subprocess.run([*run, *paths], check=True, capture_output=True, text=True).stdout
    expected = [_averaged(load_artifact(folder), samples) for samples in recordings]
    cosine = expected[0] @ expected[1] / np.prod([np.linalg.norm(each) for each in expected])
    assert float(found) == pytest.approx(cosine, abs=1e-4)


def _averaged(artifact, samples):
    model, filterbank = artifact.build(), Filterbank(artifact.front_end)
    block = 10 * artifact.front_end.sample_rate
    blocks = [samples[at : at + block] for at in range(0, len(samples), block)]
    blocks = [each for each in blocks if len(each) >= block // 4]
    with torch.inference_mode():
        found = [
            model(filterbank(torch.from_numpy(each.astype(np.float32))[None]))[0].numpy()
            for each in blocks
        ]
    return sum(each / np.linalg.norm(each) for each in found)
