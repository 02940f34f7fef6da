import errno
import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import zlib

import pytest

from sparsify.errors import SparsifyError
from sparsify.files import (
    check_writable,
    clear_temporaries,
    content_digest,
    holds_alone,
    locked,
    replacing,
    zipped_bytes,
)


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


def killed_while_writing(path):
    """The temporary file of a process that is killed in the middle of `replacing`."""
    if not (child := os.fork()):
        with replacing(path) as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (temporary,) = (each for each in path.parent.iterdir() if str(child) in each.name)
    return temporary


@pytest.mark.parametrize("name", ["model.onnx", "m[1]*.onnx", "plain", "a.tar.gz"])
def test_what_a_killed_writer_left_goes_with_the_next_one(name, tmp_path):
    path = tmp_path / name
    killed_while_writing(path)
    with replacing(path) as temporary:
        temporary.write_text("whole")
        assert list(tmp_path.iterdir()) == [temporary]
    assert [each.read_text() for each in tmp_path.iterdir()] == ["whole"]


def test_a_living_writers_file_stays_and_both_write_whole_files(tmp_path):
    path = tmp_path / "model.onnx"
    with replacing(path) as first:
        first.write_text("first")
        with replacing(path) as second:  # a thread, say
            assert second != first
            second.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"


def test_whether_a_writer_lives_is_not_told_by_its_number_alone(tmp_path):
    path = tmp_path / "model.onnx"
    left = killed_while_writing(path)
    machine, pid, start, token = left.name.split(".")[2].split("-")
    reused = f".model.{machine}-{os.getpid()}-{start}-{token}.tmp.onnx"
    elsewhere = f".model.{'0' * 8}-{pid}-{start}-{token}.tmp.onnx"  # another machine or container
    others = [elsewhere, f".model.{pid}.tmp.onnx", f".modest.{machine}-1-1-0.tmp.onnx"]
    for name in (reused, *others):
        (tmp_path / name).write_text("half")
    with replacing(path) as temporary:
        temporary.write_text("whole")
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted([*others, path.name])
    clear_temporaries(path)  # which knows from a lock that there is no writer
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted([others[-1], path.name])


HOLD = """
import sys
from pathlib import Path
from sparsify.files import locked
path, count = Path(sys.argv[1]), int(sys.argv[2])
for _ in range(count):
    with locked(path / "lock") as alone:
        if alone:
            inside = path / "inside"
            inside.touch(exist_ok=False)
            inside.unlink()
"""


def test_a_lock_on_a_file_that_was_removed_meanwhile_is_none(tmp_path, monkeypatch):
    """One waits at the file that the holder removes, while a third makes a new one."""
    path = tmp_path / "lock"
    opened, real = [], fcntl.lockf

    def late(file, operation):
        if not opened:
            opened.append(os.fstat(file.fileno()).st_ino)
            path.unlink()  # by its holder, between our opening and our locking it
            path.touch()
        real(file, operation)

    monkeypatch.setattr(fcntl, "lockf", late)
    with locked(path) as alone:
        assert alone
        assert path.stat().st_ino != opened[0]
    assert not path.exists()


def test_processes_that_come_and_go_are_never_two(tmp_path):
    command = [sys.executable, "-c", HOLD, tmp_path, "300"]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(3)]
    for process in processes:
        _, said = process.communicate()
        assert process.returncode == 0, said.decode()[-2000:]


def test_an_error_of_the_system_becomes_a_sentence(tmp_path):
    with pytest.raises(SparsifyError, match=r"cannot write .*no space"), replacing(tmp_path / "a"):
        raise OSError(28, "no space left on device")


def test_a_name_that_is_too_long_for_what_is_written_first(tmp_path):
    path = tmp_path / ("a" * 255)
    path.touch()
    with pytest.raises(SparsifyError, match="name too long"), replacing(path) as temporary:
        temporary.touch()


def test_paths_that_cannot_be_written_are_found_beforehand(tmp_path):
    with pytest.raises(SparsifyError, match="create the folder"):
        check_writable(tmp_path / "missing" / "file")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SparsifyError, match="it is no file"):
        check_writable(tmp_path / "pipe")
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


def test_the_digest_of_a_folder_is_that_of_a_list_of_its_files(tmp_path):
    (tmp_path / "weights").mkdir()
    for name, content in (("weights/b", b"1"), ("weights/a", b"2"), ("graph", b"3")):
        (tmp_path / name).write_bytes(content)
    one, two, three = (hashlib.sha256(content).hexdigest() for content in (b"1", b"2", b"3"))
    listed = f"{three}  graph\n{two}  weights/a\n{one}  weights/b\n"
    assert content_digest(tmp_path) == hashlib.sha256(listed.encode()).hexdigest()
    assert content_digest(tmp_path / "graph") == three


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
