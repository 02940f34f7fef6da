"""Damaged audio and damaged lists end in a value or in one sentence, never in anything else."""

import io
import json
import multiprocessing
import os
import random
import resource
import tarfile

import numpy as np
import pytest
import soundfile as sf

from sparsify.audio.decode import decode_audio, read_crop, read_header
from sparsify.audio.source import AudioSource
from sparsify.corpus.cache import load_audio
from sparsify.corpus.layouts import load_corpus
from sparsify.errors import SparsifyError

from .mutations import mutated

RATE = 16000
MEMORY = 1 << 30  # more than a process has when it begins
NAMES = [f"{speaker}/{number}.wav" for speaker in ("anna", "bert") for number in (1, 2)]


def encoded(seconds=0.5, **kwargs):
    samples = 0.3 * np.random.default_rng(0).standard_normal((round(seconds * RATE), 1))
    stream = io.BytesIO()
    sf.write(stream, samples, RATE, **kwargs)
    return stream.getvalue()


def tar():
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as file:
        for name in NAMES:
            for suffix, content in (("wav", encoded(format="WAV")), ("spk", name[:4].encode())):
                info = tarfile.TarInfo(f"{name[:-4]}.{suffix}")
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def json_lines():
    rows = [{"speaker": name[:4], "path": name, "seconds": 0.5} for name in NAMES]
    rows[0] |= {"key": "a", "start": 0.0, "end": 0.4, "verified": True}
    rows[1] |= {"offset": 0, "bytes": len(encoded(format="WAV"))}
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def columns():
    rows = "".join(f"{name},{name[:4]},{name},0.5,0.0,0.4,0,1000,True\n" for name in NAMES)
    return f"key,speaker,path,seconds,start,end,offset,bytes,verified\n{rows}".encode()


def kaldi():
    listed = [(name.replace("/", "-"), name) for name in NAMES]
    return {
        "wav.scp": "".join(f"{key} {name}\n" for key, name in listed),
        "utt2spk": "".join(f"{key}-u {name[:4]}\n" for key, name in listed),
        "segments": "".join(f"{key}-u {key} 0.05 0.45\n" for key, _ in listed),
        "utt2dur": "".join(f"{key}-u 0.4\n" for key, _ in listed),
    }


AUDIO = {
    "wav": {"format": "WAV"},
    "float.wav": {"format": "WAV", "subtype": "FLOAT"},
    "adpcm.wav": {"format": "WAV", "subtype": "IMA_ADPCM"},
    "rf64": {"format": "RF64"},
    "w64": {"format": "W64"},
    "flac": {"format": "FLAC"},
    "ogg": {"format": "OGG"},
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "mp3": {"format": "MP3"},
    "aiff": {"format": "AIFF"},
    "au": {"format": "AU"},
    "caf": {"format": "CAF"},
    "voc": {"format": "VOC"},
    "nist": {"format": "NIST"},
}
LISTS = {
    "list.jsonl": (json_lines, "list.jsonl"),
    "list.csv": (columns, "list.csv"),
    "raw.list": (json_lines, "raw.list"),
    "shard.list": (lambda: b"0.tar\n1.tar\n", "shard.list"),
    "0.tar": (tar, "shard.list"),
    **{name: (lambda name=name: kaldi()[name].encode(), ".") for name in kaldi()},
}


def with_checksums(content):
    """A tar in which the damage is believed."""
    changed = bytearray(content)
    for start in range(0, len(changed) - 511, 512):
        block = changed[start : start + 512]
        if block[257:262] == b"ustar":
            total = sum(block[:148]) + 8 * ord(" ") + sum(block[156:])
            changed[start + 148 : start + 156] = b"%06o\0 " % total
    return bytes(changed)


def check_reason(reason):
    assert 0 < len(reason) < 600
    assert "\n" not in reason


def read_encoded(path):
    """All that reads audio, which has to agree."""
    source = AudioSource(path)
    header, whole = read_header(source), decode_audio(source, RATE)
    crop = read_crop(source, 0.7, 3000, RATE)
    for reason in (header, whole):
        if isinstance(reason, str):
            check_reason(reason)
    if isinstance(whole, str):
        return
    assert np.isfinite(whole).all()
    assert np.abs(whole).max() <= 1
    if crop is not None:
        start = int(0.7 * (len(whole) - 3000 + 1))
        np.testing.assert_array_equal(crop, whole[start : start + 3000])


def read_listed(path):
    try:
        corpus, _ = load_audio(load_corpus(path), RATE)
        for skipped in corpus.skipped:
            check_reason(skipped.reason)
    except SparsifyError as error:
        check_reason(str(error))


def read_damaged(read, path, target, data, count, log, seed):
    """Reads damaged inputs in a process of its own, with little memory."""
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), 2)  # decoders complain
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for seed.value in range(count):
        damaged = mutated(data, random.Random(seed.value))
        target.write_bytes(with_checksums(damaged) if seed.value % 2 else damaged)
        read(path)


def survive(read, path, target, data, count):
    context = multiprocessing.get_context("fork")
    log, seed = path.parent / "stderr", context.Value("i")
    arguments = (read, path, target, data, count, log, seed)
    process = context.Process(target=read_damaged, args=arguments)
    process.start()
    process.join()
    if process.exitcode != 0:
        tail = log.read_text(errors="replace")[-2000:]
        pytest.fail(f"exit code {process.exitcode} at seed {seed.value}: {tail}", pytrace=False)


@pytest.mark.parametrize("name", AUDIO)
def test_damaged_audio(name, tmp_path, fuzz_count):
    path = tmp_path / f"a.{name}"
    survive(read_encoded, path, path, encoded(**AUDIO[name]), fuzz_count)


@pytest.mark.parametrize("name", LISTS)
def test_damaged_lists(name, tmp_path, fuzz_count):
    content, listed = LISTS[name]
    for place in NAMES:
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_bytes(encoded(format="WAV"))
    if listed == ".":
        for other, text in kaldi().items():
            (tmp_path / other).write_text(text)
    elif listed == "shard.list":
        (tmp_path / "shard.list").write_bytes(b"0.tar\n")
        (tmp_path / "0.tar").write_bytes(tar())
    survive(read_listed, tmp_path / listed, tmp_path / name, content(), fuzz_count)
