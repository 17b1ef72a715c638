"""Front ends that did not start each other meet, and only those of one user."""

import os
import socket
from pathlib import Path

import pytest

from aruntime.control import meeting


@pytest.fixture(autouse=True)
def _runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.fixture
def listener() -> socket.socket:
    path = meeting.place("x")
    end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    end.bind(str(path))
    end.listen()
    end.setblocking(False)
    return end


def test_the_place_depends_on_the_marks_and_the_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    assert meeting.place("a") == meeting.place("a") != meeting.place("b")
    before = meeting.place("a")
    monkeypatch.setattr(os, "getppid", lambda: 1)
    assert meeting.place("a") != before


def test_the_folder_is_this_users_alone(tmp_path: Path) -> None:
    folder = meeting.runtime_folder()
    assert folder == tmp_path / "aruntime"
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o755)
    with pytest.raises(PermissionError):
        meeting.runtime_folder()


def test_a_link_is_not_the_folder(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "aruntime").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError):
        meeting.runtime_folder()


def test_a_second_front_end_finds_what_the_first_has_started(listener: socket.socket) -> None:
    post = meeting.find_or_start(meeting.place("x"), "a_module_that_must_not_be_started")
    visitor = meeting.accept(listener)
    assert visitor is not None
    assert visitor[1] == os.getpid()
    post.send(b"hello")
    letter = visitor[0].receive()
    assert letter is not None
    assert letter.data == b"hello"
    post.close()
    visitor[0].close()
    listener.close()


def test_a_front_end_of_another_user_is_turned_away(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    post = meeting.find_or_start(meeting.place("x"), "a_module_that_must_not_be_started")
    monkeypatch.setattr(os, "getuid", lambda: 12_345)
    assert meeting.accept(listener) is None
    assert post.receive() is None
    post.close()
    listener.close()


def test_the_place_stays_while_somebody_is_at_the_door_and_is_gone_after(listener: socket.socket) -> None:
    path = meeting.place("x")
    post = meeting.find_or_start(path, "a_module_that_must_not_be_started")
    assert not meeting.retire(listener, path)
    visitor = meeting.accept(listener)
    assert visitor is not None
    assert meeting.retire(listener, path)
    assert list(path.parent.iterdir()) == []
    visitor[0].close()
    post.close()
