import json
import random
import re
import runpy
import sys
import zlib
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file

from sparsify.artifact import coded
from sparsify.artifact.levels import GRIDS
from sparsify.artifact.loading import load_artifact
from sparsify.artifact.room import Room
from sparsify.artifact.rounding import rounded
from sparsify.artifact.saving import copy_artifact
from sparsify.errors import SparsifyError

PAGE = (Path(__file__).parents[2] / "docs" / "coded.md").read_text("utf-8")
TYPES = (np.float32, np.float64, np.float16, np.int64, np.int32, np.int16, np.int8, np.uint8)
ELEMENTS = {
    np.float32: st.sampled_from(
        [0.0, -0.0, 1.0, -2.5, 7.0, np.nan, np.inf, 2.0**-149, float(np.float32(np.pi))]
    ),
}


def decoded(state):
    return coded.decode(coded.encode(state), Room(1000))


def raw(tensor):
    return tensor.contiguous().reshape(-1, 1).view(torch.uint8).numpy().tobytes()


def same(one, other):
    return one.tobytes() == other.tobytes()


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(TYPES))
def test_tensors_come_back_to_the_last_bit(data, dtype):
    shape = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=6)
    array = data.draw(hnp.arrays(dtype, shape, elements=ELEMENTS.get(dtype)))
    half = array.astype(ml_dtypes.bfloat16)
    found = decoded({"w": array, "half": half})
    assert found["w"].dtype == array.dtype
    assert found["w"].shape == array.shape
    assert same(found["w"], array)
    assert same(found["half"], half)


def sparse(*shape, share=0.1, seed=0):
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=shape) * (rng.random(shape) < share)
    return weight.astype(np.float32) + np.float32(0)  # no negative zeros


def bytes_of(state):
    return sum(array.size for array in coded.encode(state).values())


def binary_entropy(share):
    return -share * np.log2(share) - (1 - share) * np.log2(1 - share)


def test_random_masks_take_what_their_entropy_is():
    weight = np.sign(sparse(256, 512))
    nonzero = np.count_nonzero(weight)
    expected = (weight.size * binary_entropy(nonzero / weight.size) + nonzero) / 8
    assert coded.entropy_bytes({"w": weight}) == pytest.approx(expected, rel=1e-3)
    assert bytes_of({"w": weight}) == pytest.approx(expected, rel=0.005)


def test_rows_of_different_density_take_less_than_if_they_were_the_same():
    weight = np.concatenate([np.sign(sparse(64, 512, share=share)) for share in (0.01, 0.3, 1)])
    state = {"w": weight}
    assert bytes_of(state) < 0.9 * coded.entropy_bytes(state)
    assert same(decoded(state)["w"], weight)


@pytest.mark.parametrize("bits", [4, 8])
def test_levels_take_their_entropy_and_scales(bits):
    weight = GRIDS[bits].rounded(sparse(128, 512))
    scales, levels = GRIDS[bits].split(weight)
    symbols = np.zeros_like(weight)
    symbols[weight != 0] = levels
    counts = np.unique(symbols, return_counts=True)[1]
    entropy = -(counts * np.log2(counts / symbols.size)).sum()  # of masks and levels together
    size = bytes_of({"w": weight})
    assert entropy / 8 < size < 1.03 * entropy / 8 + 2 * len(scales) + 200
    assert coded.entropy_bytes({"w": weight}) < 1.01 * size


def test_negative_zeros_stay_what_they_are():
    weight = GRIDS[4].rounded(sparse(20, 40))
    weight[0, 0] = -0.0
    assert same(decoded({"w": weight})["w"], weight)


def test_half_precision_takes_no_more_digits_than_it_has():
    weight = sparse(128, 512, share=0.5)
    more = bytes_of({"w": weight}) - bytes_of({"w": weight.astype(np.float16).astype(np.float32)})
    assert more == pytest.approx(13 / 8 * np.count_nonzero(weight), rel=0.01)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int4"])
def test_the_decoder_of_the_page_reads_the_same(artifacts, tmp_path, precision):
    artifact = rounded(load_artifact(artifacts["dense"]), precision)
    copy_artifact(artifact, tmp_path / "m.safetensors", "coded")
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    (tmp_path / "decoder.py").write_text(code)
    decoder = runpy.run_path(str(tmp_path / "decoder.py"))
    found = {name: rest for name, *rest in decoder["read"](tmp_path / "m.safetensors")}
    expected = load_artifact(tmp_path / "m.safetensors").state
    assert found.keys() == expected.keys() == artifact.state.keys()
    for name, (_, shape, content) in found.items():
        assert torch.equal(expected[name], artifact.state[name])
        assert (tuple(shape), content) == (expected[name].shape, raw(expected[name]))


def test_a_coded_file_is_the_smallest(artifacts):
    sizes = [artifacts[name].stat().st_size for name in ("dense", "bitmask", "coded")]
    assert sizes == sorted(sizes, reverse=True)
    assert load_file(artifacts["coded"]).keys() == {coded.LIST, coded.WORDS}


def test_without_the_coder_one_sentence_says_what_to_install(artifacts, monkeypatch):
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(SparsifyError, match=r"^constriction is not .*sparsify-speaker\[coded\]'$"):
        load_artifact(artifacts["coded"])
    with pytest.raises(SparsifyError, match=r"sparsify-speaker\[coded\]"):
        coded.encode({"w": np.zeros(3)})


def listing(*rows):
    return np.frombuffer(zlib.compress(json.dumps(rows).encode()), dtype=np.uint8)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["w", "F32", [2**20, 2**20]]], "absurd"),
        ([["w", "F32", [-1, 3]]], "cannot have shape"),
        ([["w", "F32", [1] * 40]], "dimensions"),
        ([["w", "F32", [2.0]]], "no name, type and shape"),
        ([["w", "F32", [True]]], "no name, type and shape"),
        ([["w", "C64", [2]]], "no name, type and shape"),
        ([["w", "F32"]], "no name, type and shape"),
        ([["w", "F32", [0]], ["w", "F32", [0]]], "twice"),
        ([], "do not end"),
        ([["v", "F32", [3, 3]]], "do not end"),
    ],
)
def test_lists_that_contradict_the_stream_are_refused(rows, message):
    stored = coded.encode({"w": sparse(40, 40)}) | {coded.LIST: listing(*rows)}
    with pytest.raises(SparsifyError, match=message):
        coded.decode(stored, Room(1000))


def test_damaged_streams_give_other_values_or_a_sentence():
    state = {"w": sparse(20, 40), "q": GRIDS[4].rounded(sparse(20, 40))}
    stored = coded.encode(state)
    rng = random.Random(0)
    for _ in range(300):
        part = rng.choice((coded.LIST, coded.WORDS))
        damaged = stored[part].copy()
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        damaged = damaged[: rng.choice((len(damaged), rng.randrange(len(damaged))))]
        try:
            found = coded.decode(stored | {part: damaged}, Room(1000))
        except SparsifyError as error:
            assert "\n" not in str(error)  # noqa: PT017
        else:
            # The last bits of a deflated list mean nothing.
            assert part == coded.LIST or any(
                not same(found[name], array) for name, array in state.items()
            )


@pytest.mark.parametrize("content", [np.zeros(4), np.zeros((2, 2), dtype=np.uint8)])
def test_parts_that_are_no_bytes_are_refused(content):
    with pytest.raises(SparsifyError, match="must be bytes"):
        coded.decode(coded.encode({}) | {coded.WORDS: content}, Room(1000))


def test_an_absurdly_long_list_is_refused():
    bomb = np.frombuffer(zlib.compress(b" " * (1 << 24)), dtype=np.uint8)
    with pytest.raises(SparsifyError, match="absurdly long"):
        coded.decode(coded.encode({}) | {coded.LIST: bomb}, Room(1000))
