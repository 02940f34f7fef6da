"""The engine touches nothing but what it is given, and says what it cannot do with a number."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils._sympy.functions import FloorDiv

from sparsify.exporters.native.attention import attend, products
from sparsify.exporters.native.engine import ENGINE_SOURCES, workspace
from sparsify.exporters.native.matrix import BLOCK

from ...compiling import COMPILER
from .conftest import ARM64, ARM64_ENGINES
from .running import Building, T, all_frames, call

_aten = torch.ops.aten
ARGUMENT, TOO_SHORT, TOO_LONG, TOO_SMALL, UNALIGNED = -1, -2, -3, -4, -5
BINS = 6
DRIVER = Path(__file__).with_name("driver.c")


def _weight(*shape):
    generator = torch.Generator().manual_seed(sum(shape))
    weight = torch.randn(*shape, generator=generator)
    return weight * (torch.rand(*shape, generator=generator) > 0.4)


def _building():
    """A network with every kind of operation that the engine has, and its embedding."""
    building = Building(BINS)
    x = building.call(_aten.permute.default, building.feats, [0, 2, 1])
    x = _conv(building, x, 9, 5, padding=6, dilation=3)
    x = building.call(_aten.relu.default, x)
    padded = building.call(_aten.reflection_pad1d.default, x, [2, 1], shape=(1, 9, T + 3))
    wide = _conv(building, padded, 7, 23, padding=11)
    ends = building.call(_aten.replication_pad1d.default, wide, [0, 4], shape=(1, 7, T + 7))
    short = _conv(building, ends, 6, 3, stride=2, padding=1)
    length = short.length
    segments = FloorDiv(length + 9, 10)
    means = building.call(
        _aten.avg_pool1d.default, short, [10], [10], [0], True, shape=(1, 6, segments)
    )
    means = building.call(_aten.unsqueeze.default, means, -1)
    means = building.call(_aten.expand.default, means, (), shape=(1, 6, segments, 10))
    means = building.call(_aten.view.default, means, (), shape=(1, 6, 10 * segments))
    means = building.call(_aten.slice.Tensor, means, 2, 0, None, shape=(1, 6, length))
    gates = building.call(_aten.sigmoid.default, building.rowwise("add", short, means))
    gated = building.call(_aten.mul.Tensor, short, gates)
    alpha = building.call(_aten._softmax.default, gated, 2, False)
    weighed = building.call(_aten.sum.dim_IntList, building.rowwise("multiply", alpha, gated), [2])
    spread = building.call(_aten.var.correction, gated, [2], correction=0)
    root = building.call(_aten.sqrt.default, building.rowwise("add", spread, 1e-5))
    peak = building.call(_aten.amax.default, building.call(_aten.tanh.default, wide), [2])
    frames = building.call(_aten.permute.default, wide, [0, 2, 1])
    scores = replace(products(frames, wide), shared=True)
    seen = building.call(_aten.mean.dim, attend(building, scores, frames), [1])
    twice = building.call(_aten.unsqueeze.default, short, -1)
    twice = building.call(_aten.expand.default, twice, (), shape=(1, 6, length, 2))
    twice = building.call(_aten.view.default, twice, (), shape=(1, 6, 2 * length))
    lowest = building.call(_aten.amin.default, twice, [2])
    plane = building.call(_aten.unsqueeze.default, x, 1)
    plane = building.call(
        _aten.convolution.default,
        *(plane, _weight(4, 1, 3, 3), None, [2, 1], [2, 1], [1, 1], False, [0, 0], 1),
        shape=(1, 4, 6, T),
    )
    plane = building.call(_aten.mean.dim, plane, [2, 3])
    joined = building.call(_aten.cat.default, [weighed, root, peak, seen, lowest, plane], 1)
    return building, building.call(_aten.addmm.default, torch.ones(5), joined, _weight(36, 5))


def _conv(building, x, outputs, kernel, stride=1, padding=0, dilation=1):
    length = FloorDiv(x.length + 2 * padding - dilation * (kernel - 1) - 1, stride) + 1
    return building.call(
        _aten.convolution.default,
        *(x, _weight(outputs, x.rows.shape[1], kernel), _weight(outputs)),
        *([stride], [padding], [dilation], False, [0], 1),
        shape=(1, outputs, length),
    )


@pytest.fixture(scope="module")
def blob():
    building, value = _building()
    return building.program([value]).blob


@pytest.fixture(scope="module")
def blobs(blob, tmp_path_factory):
    """Files: the same with kernels for blocks, in half precision, and with matrices of zeros."""
    folder = tmp_path_factory.mktemp("blobs")
    (folder / "single.bin").write_bytes(blob)
    building, value = _building()
    (folder / "blocks.bin").write_bytes(building.program([value], lambda step: BLOCK).blob)
    building, value = _building()
    for step in building.steps.steps:
        if hasattr(step, "weight"):
            step.weight = step.weight.astype(np.float16).astype(np.float32)
    (folder / "half.bin").write_bytes(building.program([value], half=True).blob)
    building, value = _building()
    for step in building.steps.steps:
        if hasattr(step, "weight"):
            step.weight = np.zeros_like(step.weight)
    (folder / "zeros.bin").write_bytes(building.program([value], lambda step: BLOCK).blob)
    return sorted(folder.iterdir())


def _driver(c_sources, compiler, folder, blob, *options):
    """The program beside this file, with the engine and a blob."""
    (folder / "weights.bin").write_bytes(blob)
    names = [*ENGINE_SOURCES, "threads.c", "weights.S"]
    sources = [str(c_sources / name) for name in names] + [str(DRIVER)]
    command = [compiler, "-std=gnu11", "-ffp-contract=fast", "-Wall", "-Wextra", "-Werror"]
    command += [f"-I{c_sources}", "-Wa,-I.", *options, *sources, "-o", "driver", "-lm", "-pthread"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "driver"


def _run(*command):
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-1000:] + result.stderr[-3000:]


@pytest.mark.parametrize("sanitized", [True, False])
@pytest.mark.parametrize("without", [("AVX2",), ("AVX512",), ("AVX512", "AVX2")])
def test_nothing_else_is_touched(c_sources, sanitizers, blob, blobs, tmp_path, without, sanitized):
    """At every length, each buffer ends and begins at a page that nobody may touch; what was in the
    workspace changes nothing.
    """
    options = [f"-DSPARSIFY_NO_{each}" for each in without]
    options += sanitizers if sanitized else ["-O1"]  # with both, compilers take their time
    driver = _driver(c_sources, COMPILER[0], tmp_path, blob, *options)
    _run(driver, "guards", *blobs)
    _run(driver, "threads", "9", "64", "130", "450")


@pytest.mark.parametrize("instructions", ARM64_ENGINES)
def test_nothing_else_is_touched_on_arm64(
    c_sources, arm64_tools, blob, blobs, tmp_path, instructions
):
    compiler, emulator = arm64_tools
    options, cpu, _ = ARM64_ENGINES[instructions]
    if instructions == "neon-fp16":  # by several threads, too
        (blob,) = (path.read_bytes() for path in blobs if path.stem == "half")
    driver = _driver(c_sources, compiler, tmp_path, blob, "-O1", "-static", *options)
    _run(emulator, "-cpu", cpu, driver, "guards", *blobs)
    _run(emulator, "-cpu", cpu, driver, "threads", "9", "64", "130", "450")


def test_threads_do_not_race(c_sources, compile_c, blob, tmp_path):
    options = ["-fsanitize=thread", "-DSPARSIFY_NO_AVX512", "-DSPARSIFY_NO_AVX2"]
    try:
        driver = _driver(c_sources, COMPILER[0], tmp_path, blob, *options)
    except subprocess.CalledProcessError:
        pytest.skip("the C compiler has no thread sanitizer")
    result = subprocess.run(
        [driver, "threads", "9", "70"], capture_output=True, text=True, check=False
    )
    if "unexpected memory mapping" in result.stderr:
        pytest.skip("the thread sanitizer does not run on this kernel")
    assert result.returncode == 0, result.stdout + result.stderr[-3000:]


@pytest.mark.parametrize(
    "compiler", ["gcc", "clang", "aarch64-linux-gnu-gcc", "clang --target=aarch64-linux-gnu"]
)
def test_compilers_have_nothing_to_say(c_sources, compiler):
    command = compiler.split()
    if shutil.which(command[0]) is None or (len(command) > 1 and shutil.which(ARM64[0]) is None):
        pytest.skip(f"there is no {compiler}")
    files = sorted(c_sources.glob("*.c"))
    options = ["-std=gnu11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"]
    subprocess.run([*command, *options, "-DSPARSIFY_HALF", *files], check=True)


def test_wrong_arguments_are_numbers_and_nothing_is_written(widest_engine, blob):
    feats, embedding = np.ones((20, BINS), np.float32), np.full(5, 7, np.float32)
    size = widest_engine.call("sparsify_blob_workspace", blob, 20, 1)
    memory = workspace(size + 64)
    memory[:] = 3

    def code(feats=feats, frames=20, memory=memory, at=0, bytes_=size, embedding=embedding):
        place = None if memory is None else memory[at:]
        return widest_engine.call(
            "sparsify_blob_embed", blob, feats, frames, place, bytes_, embedding
        )

    assert code(feats=None) == code(embedding=None) == code(memory=None) == ARGUMENT
    assert {code(frames=frames) for frames in (0, -1, -(2**31), 1, 2)} == {TOO_SHORT}
    assert code(frames=(1 << 24) + 1) == code(frames=2**31 - 1) == TOO_LONG
    assert code(bytes_=size - 1) == code(frames=65) == code(bytes_=0) == TOO_SMALL
    assert {code(at=at) for at in (4, 32, 63)} == {UNALIGNED}
    assert (memory == 3).all()
    assert (embedding == 7).all()
    assert code() == 0
    assert np.isfinite(embedding).all()
    for frames in (0, -1, (1 << 24) + 1):
        assert widest_engine.call("sparsify_blob_workspace", blob, frames, 1) == 0
    assert widest_engine.call("sparsify_blob_workspace", blob, 20, 0) == 0


def test_numbers_that_are_no_lengths_need_no_room(widest_engine):
    """Frames times channels, a divisor, is more than 32 bits hold of a day of audio."""
    sizes = []
    for factor in (1, 1 << 20):
        building = Building(BINS)
        total = building.call(_aten.sum.dim_IntList, building.feats, [1])
        value = building.call(_aten.div.Tensor, total, T * factor)
        program = building.program([value]).blob
        feats = np.ones((4096, BINS), np.float32)
        _, found, memory = call(widest_engine, program, feats)
        np.testing.assert_allclose(found, np.full(BINS, 1 / factor), rtol=1e-6)
        sizes.append(memory.nbytes)
    assert sizes[0] == sizes[1]


def test_an_hour_of_audio(widest_engine):
    building = Building(4)
    x = building.call(_aten.permute.default, building.feats, [0, 2, 1])
    x = building.call(_aten.relu.default, _conv(building, x, 5, 5, stride=2, padding=2))
    mean = building.call(_aten.mean.dim, x, [2])
    spread = building.call(_aten.var.correction, x, [2], correction=1)
    peak = building.call(_aten.amax.default, x, [2])
    value = building.call(_aten.cat.default, [mean, spread, peak], 1)
    feats = torch.randn(360_000, 4, generator=torch.Generator().manual_seed(0)) + 3
    code, found, _ = call(widest_engine, building.program([value]).blob, feats.numpy())
    y = F.conv1d(
        feats.double().T[None], _weight(5, 4, 5).double(), _weight(5).double(), 2, 2
    ).relu()
    expected = torch.cat([y.mean(2), y.var(2), y.amax(2)], 1)[0].numpy()
    assert code == 0
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)


def test_what_is_no_number_stays_where_pytorch_has_it(engine):
    """Of a layer without zeros: with zeros, PyTorch multiplies them with infinity."""
    weight = torch.rand(6, BINS, 5) + 0.1
    building = Building(BINS)
    x = building.call(_aten.permute.default, building.feats, [0, 2, 1])
    x = building.call(
        _aten.convolution.default,
        *(x, weight, None, [1], [2], [1], False, [0], 1),
        shape=(1, 6, T),
    )
    x = building.call(_aten.relu.default, x)
    values = {
        "frames": x,
        "mean": building.call(_aten.mean.dim, x, [2]),
        "highest": building.call(_aten.amax.default, x, [2]),
        "lowest": building.call(_aten.amin.default, x, [2]),
        "clamped": building.call(_aten.clamp.default, x, 0.5, 2.0),
        "tanh": building.call(_aten.tanh.default, x),
        "softmax": building.call(_aten._softmax.default, x, 2, False),
    }
    program = building.program(values.values()).blob
    for place, special in ((3, np.nan), (40, np.inf), (68, np.nan), (69, -np.inf)):
        feats = torch.randn(70, BINS)
        feats[place, 2] = special
        y = F.conv1d(feats.T[None], weight, padding=2).relu()[0]
        expected = [y, y.mean(1), y.amax(1), y.amin(1), y.clamp(0.5, 2), y.tanh(), y.softmax(1)]
        counts = np.repeat([70, 1, 1, 1, 70, 70, 70], 6)
        found = iter(all_frames(engine, program, feats.numpy(), counts))
        for name, tensor in zip(values, expected, strict=True):
            for row in tensor.reshape(6, -1).numpy():
                np.testing.assert_allclose(next(found), row, rtol=1e-4, atol=1e-5, err_msg=name)
