import errno
import os
import zlib

import pytest

from sparsify.errors import SparsifyError
from sparsify.files import check_writable, holds_alone, replacing, zipped_bytes


def test_replacing_puts_the_whole_file_into_place(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert temporary.suffix == path.suffix
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_folder_as_it_was(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_text("old")
    with pytest.raises(KeyError), replacing(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise KeyError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_of_the_system_becomes_a_sentence(tmp_path):
    with pytest.raises(SparsifyError, match=r"cannot write .*no space"), replacing(tmp_path / "a"):
        raise OSError(28, "no space left on device")


def test_paths_that_cannot_be_written_are_found_beforehand(tmp_path):
    with pytest.raises(SparsifyError, match="create the folder"):
        check_writable(tmp_path / "missing" / "file")
    with pytest.raises(SparsifyError, match="it is a folder"):
        check_writable(tmp_path)


def test_a_folder_without_permission_is_found_beforehand(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(SparsifyError, match="not writable"):
        check_writable(tmp_path / "file")


@pytest.mark.parametrize("size", [0, 1000, (1 << 20) + 7])
def test_zipped_bytes_is_the_size_of_a_deflated_file(tmp_path, size):
    path = tmp_path / "file"
    path.write_bytes(b"0123" * (size // 4) + bytes(size % 4))
    assert zipped_bytes(path) == len(zlib.compress(path.read_bytes()))


@pytest.mark.parametrize(
    ("number", "held"), [(errno.EAGAIN, False), (errno.EACCES, False), (errno.ENOSYS, True)]
)
def test_a_lock_is_held_unless_somebody_else_has_it(number, held, tmp_path, caplog):
    """A file system without locks stops no work."""

    def lock(*_):
        raise OSError(number, os.strerror(number))

    with (tmp_path / "lock").open("w") as file:
        assert holds_alone(file, lock) is held
    assert ("cannot be locked" in caplog.text) is held
