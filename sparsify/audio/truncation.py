"""Finds audio files that end early although libsndfile opens and decodes them without complaint."""

from __future__ import annotations

import re

import soundfile as sf

from sparsify.audio.source import AudioSource, last_bytes

# Some encoders announce a little more than they write.
SMALLEST_SHARE = 0.98
_MAX_OGG_PAGE = 65307
_OGG_HEADER = 27
_END_OF_STREAM = 4
# Writers to pipes leave sizes like 0xFFFFFFFF or 0x7FFFFFFF: unknown, not truncated.
_UNKNOWN_SIZE = 0x7FFF0000
_DECLARED_SIZE = re.compile(
    r"^ *(?:data|SSND|Data Size)\s*:\s*(\d+)\s+\(should be (\d+)\)", re.MULTILINE
)


def ends_early(file: sf.SoundFile, source: AudioSource) -> bool:
    """Whether the file holds less audio than its container announces.

    WAV and its relatives declare the size of their data, which libsndfile's log compares with the
    file's; an Ogg stream marks its last page (RFC 3533). Other formats tell only when decoded.

    Args:
        file: The open file.
        source: Where it lies.
    """
    if file.format == "OGG":
        return not _ogg_is_complete(last_bytes(source, _MAX_OGG_PAGE))
    sizes = _DECLARED_SIZE.search(file.extra_info)
    if sizes is None:
        return False
    declared, present = int(sizes[1]), int(sizes[2])
    return declared < _UNKNOWN_SIZE and present < SMALLEST_SHARE * declared


def _ogg_is_complete(tail: bytes) -> bool:
    start = tail.rfind(b"OggS")
    page = tail[start:] if start >= 0 else b""
    if len(page) < _OGG_HEADER:
        return False
    segments = page[_OGG_HEADER - 1]
    lengths = page[_OGG_HEADER : _OGG_HEADER + segments]
    complete = len(lengths) == segments and len(page) >= _OGG_HEADER + segments + sum(lengths)
    return complete and bool(page[5] & _END_OF_STREAM)
