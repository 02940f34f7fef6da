"""What is kept in the user's cache comes back as it was, or not at all, and takes bounded room."""

import logging
import os
from concurrent.futures import ProcessPoolExecutor

import pytest

from sparsify.user_cache import Shelf


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "sparsify" / "things"


@pytest.fixture
def shelf():
    return Shelf("things", 1000)


def test_what_is_put_is_found_and_is_the_users_alone(folder, shelf):
    before = os.umask(0o002)
    try:
        assert shelf.get("a") is None
        shelf.put("a", b"content")
    finally:
        os.umask(before)
    assert shelf.get("a") == b"content"
    modes = [path.stat().st_mode & 0o777 for path in (folder.parent, folder, folder / "a")]
    assert modes == [0o700, 0o700, 0o600]


def test_what_was_not_used_longest_makes_room(folder, shelf):
    for number, key in enumerate("abc"):
        shelf.put(key, bytes(250))
        os.utime(folder / key, (number, number))
    assert shelf.get("a") is not None  # used now
    shelf.put("d", bytes(250))
    assert {path.name for path in folder.iterdir()} == {"a", "c", "d"}
    shelf.put("large", bytes(1000))
    assert shelf.get("large") is None
    assert {path.name for path in folder.iterdir()} == {"a", "c", "d"}


def damaged(file):
    file.write_bytes(b"other" + file.read_bytes()[5:])


def empty(file):
    file.write_bytes(b"")


def too_large(file):
    file.write_bytes(bytes(2000))


def writable_by_others(file):
    file.chmod(0o666)


def a_link(file):
    file.rename(file.with_name("elsewhere"))
    file.symlink_to("elsewhere")


def a_folder(file):
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("spoil", [damaged, empty, too_large, writable_by_others, a_link, a_folder])
def test_what_is_not_as_it_was_put_is_not_used(folder, shelf, caplog, spoil):
    shelf.put("a", b"content")
    spoil(folder / "a")
    assert shelf.get("a") is None
    assert caplog.text.count("is not used but made anew") == 1
    shelf.put("a", b"content")  # a folder in its place stays, and nothing is kept
    assert shelf.get("a") == (None if spoil is a_folder else b"content")


def test_a_cache_that_others_can_write_does_not_count(folder, shelf, caplog):
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    with caplog.at_level(logging.INFO):
        shelf.put("a", b"content")
        assert shelf.get("a") is None
    assert "others can write it" in caplog.text
    assert not [*folder.iterdir()]


def test_no_place_for_a_cache_is_no_error(monkeypatch, tmp_path, shelf):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    shelf.put("a", b"content")
    assert shelf.get("a") is None


def test_what_is_thrown_away_is_gone_and_said(folder, shelf, caplog):
    shelf.put("a", b"content")
    shelf.discard("a", "it is wrong")
    assert shelf.get("a") is None
    assert "it is wrong" in caplog.text
    (folder / "b").mkdir()  # which cannot be thrown away
    shelf.discard("b", "it is wrong, too")
    assert "it is wrong, too" in caplog.text


def put_and_get(number):
    shelf = Shelf("things", 1000)
    found = set()
    for turn in range(50):
        shelf.put(f"{turn % 5}", bytes([turn % 5]) * 300)
        found.add((turn % 5, shelf.get(f"{turn % 5}")))
    return found


def test_several_processes_get_what_was_put_or_nothing(folder):
    with ProcessPoolExecutor(3) as processes:
        found = set().union(*processes.map(put_and_get, range(3)))
    assert found <= {
        (each, content) for each in range(5) for content in (None, bytes([each]) * 300)
    }
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 1000
