"""Compiled code is loaded only as this user's compiler wrote it, and its absence is no crash."""

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sparsify import compiled_code, user_cache
from sparsify.optim.compiled import _library, fits

CODE = ("answer", "int answer(void) { return 42; }", ["-shared", "-fPIC"])

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    """An empty cache of the user's, and nothing remembered of another one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    for cached in (compiled_code._folder, _library):
        cached.cache_clear()
    yield tmp_path / "home" / "sparsify"
    for cached in (compiled_code._folder, _library):
        cached.cache_clear()


def _works():
    return compiled_code.library(*CODE).answer() == 42


@pytest.fixture
def compiled(monkeypatch):
    """The folders for which the compiler ran."""
    folders, compile_ = [], compiled_code._compiled

    def counting(command, source, folder):
        folders.append(folder)
        return compile_(command, source, folder)

    monkeypatch.setattr(compiled_code, "_compiled", counting)
    return folders


def test_code_is_compiled_once_and_nobody_else_can_touch_it(home, compiled, caplog):
    before = os.umask(0o002)
    try:
        assert _works()
    finally:
        os.umask(before)
    assert _works()
    assert compiled == [home]
    (kept,) = home.iterdir()
    assert [path.stat().st_mode & 0o777 for path in (home, kept)] == [0o700, 0o600]
    assert not caplog.text


def test_any_other_byte_and_any_other_length_is_noticed(home):
    home.mkdir(parents=True)
    path = home / "kernels.so"
    compiled_code._keep(b"\x7fELF code", path)
    whole = path.read_bytes()
    assert compiled_code._kept(path) == b"\x7fELF code"
    others = [whole[:length] for length in range(len(whole))] + [whole + b"\0"]
    others += [whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :] for i in range(len(whole))]
    for other in others:
        path.write_bytes(other)
        assert compiled_code._kept(path) is None


def _truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def _link(path):
    path.rename(path.with_suffix(".others"))
    path.symlink_to(path.with_suffix(".others"))


def _queue(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("spoil", [_truncate, _link, _queue, lambda path: path.chmod(0o620)])
def test_code_that_is_not_as_it_was_written_is_compiled_anew(home, compiled, caplog, spoil):
    assert _works()
    (path,) = home.iterdir()
    spoil(path)
    assert _works()
    assert len(compiled) == 2
    assert caplog.text.count("compiled anew") == 1
    assert _works()
    assert len(compiled) == 2  # the cache has healed


def test_what_cannot_be_replaced_does_not_stop_the_work(home, compiled, caplog):
    assert _works()
    (path,) = home.iterdir()
    path.unlink()
    path.mkdir()
    assert _works()
    assert "cannot be kept" in caplog.text


def _open_to_all(home, monkeypatch):
    home.chmod(0o777)


def _open_to_the_group(home, monkeypatch):
    home.chmod(0o770)


def _link_to_an_open_folder(home, monkeypatch):
    others = home.rename(home.with_name("others"))
    others.chmod(0o777)
    home.symlink_to(others)


def _of_another_user(home, monkeypatch):
    monkeypatch.setattr(compiled_code.os, "geteuid", lambda: os.getuid() + 1)


def _read_only(home, monkeypatch):
    monkeypatch.setattr(compiled_code.os, "access", lambda *_: False)


def _without_execution(home, monkeypatch):
    flags = os.statvfs_result((0,) * 8 + (os.ST_NOEXEC, 255))
    monkeypatch.setattr(compiled_code.os, "statvfs", lambda _: flags)


def _a_file(home, monkeypatch):
    shutil.rmtree(home)
    home.touch()


def _no_home(home, monkeypatch):
    def unknown(_):
        raise KeyError

    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "")
    monkeypatch.setattr(user_cache.pwd, "getpwuid", unknown)


PLACES = [
    _open_to_all,
    _open_to_the_group,
    _link_to_an_open_folder,
    _of_another_user,
    _read_only,
    _without_execution,
    _a_file,
    _no_home,
]


@pytest.mark.parametrize("spoil", PLACES)
def test_where_the_cache_does_not_serve_a_private_folder_does(
    home, monkeypatch, compiled, caplog, tmp_path, spoil
):
    home.mkdir(parents=True)
    spoil(home, monkeypatch)
    if spoil is _of_another_user:  # the code that is compiled now would be, too
        assert compiled_code._folder() != home
        assert compiled_code._folder().stat().st_mode & 0o777 == 0o700
    else:
        assert _works()
        assert compiled[0] != home
        assert compiled[0].stat().st_mode & 0o777 == 0o700
    assert caplog.text.count("kept for this process only") == 1


def test_without_any_folder_the_steps_are_plain(home, monkeypatch, caplog):
    def nowhere(**_):
        raise FileNotFoundError("No usable temporary directory found")

    home.parent.touch()
    monkeypatch.setattr(compiled_code.tempfile, "mkdtemp", nowhere)
    with caplog.at_level(logging.WARNING):
        assert not fits(torch.zeros(1))
    assert "steps are slower" in caplog.text


@pytest.mark.parametrize("compiler", ["", " ", None])
def test_an_empty_compiler_is_none_given(monkeypatch, compiler):
    if compiler is None:
        monkeypatch.delenv("CC", raising=False)
    else:
        monkeypatch.setenv("CC", compiler)
    assert _works()


@pytest.mark.parametrize(
    "compiler",
    [
        "true",  # says that it has compiled
        "false",
        "cc 'unbalanced",
        "cc -fsyntax-only",
    ],
)
def test_a_compiler_that_is_none_is_logged_and_no_crash(monkeypatch, caplog, compiler):
    monkeypatch.setenv("CC", compiler)
    with caplog.at_level(logging.WARNING):
        assert not fits(torch.zeros(1))
    assert caplog.text.count("steps are slower, their C code cannot be had") == 1


def test_a_compiler_that_is_missing_is_named(monkeypatch, caplog):
    monkeypatch.setenv("CC", "no-such-compiler -O2")
    with caplog.at_level(logging.WARNING):
        assert not fits(torch.zeros(1))
    assert "no compiler 'no-such-compiler' is here (install one, or set CC)" in caplog.text


def test_code_without_the_functions_is_logged_and_no_crash(monkeypatch, caplog):
    other = compiled_code.library(*CODE)
    monkeypatch.setattr(compiled_code, "library", lambda *_: other)
    assert not fits(torch.zeros(1))
    assert "steps are slower" in caplog.text


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x"),
        ({"XDG_CACHE_HOME": "", "HOME": "/h"}, "/h/.cache"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/h"}, "/h/.cache"),
        ({"XDG_CACHE_HOME": "", "HOME": ""}, "/of/the/user/.cache"),
    ],
)
def test_where_the_cache_is(monkeypatch, variables, expected):
    entry = type("Entry", (), {"pw_dir": "/of/the/user"})
    monkeypatch.setattr(user_cache.pwd, "getpwuid", lambda _: entry)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert user_cache.cache_home() == Path(expected)


def test_processes_that_compile_at_once_do_not_disturb_each_other(home):
    code = f"""
from sparsify import compiled_code, user_cache
for _ in range(10):
    assert compiled_code.library(*{CODE}).answer() == 42
    for kept in compiled_code._folder().glob("answer-*.so"):
        kept.unlink(missing_ok=True)
"""
    started = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait() for process in started] == [0, 0, 0]
    assert not list(home.iterdir())
