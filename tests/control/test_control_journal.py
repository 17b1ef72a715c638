"""What the journal was told is there again after any end of the server, and only one server writes it."""

import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aruntime.control import journal as journal_room
from aruntime.control.journal import Journal, JournalFailed, JournalRefused, default_path
from aruntime.control.launcher import environment, python

WRITER = Path(__file__).parent / "control_journal_writer.py"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.sqlite"


def test_everything_is_there_again_when_it_is_opened_again(path: Path) -> None:
    journal = Journal(path, clock=lambda: 1000.5)
    journal.save_version("demo", 2, "loading", generation=3)
    journal.save_version("demo", 2, "serving", "warm", 4, "ab" * 32)
    journal.save_version("demo", 1, "quarantined", "config.json is missing")
    journal.set_label("demo", "stable", 1)
    journal.set_label("demo", "stable", 2)
    journal.set_label("demo", "old", 1)
    journal.set_label("other", "stable", 9)
    journal.save_rollout("demo", '{"stage": "shadow"}')
    journal.record("admin", "promote", "demo@2", "ok")
    journal.close()

    again = Journal(path)
    first, second = again.versions()
    assert (first.version, first.state, first.reason) == (1, "quarantined", "config.json is missing")
    assert (second.state, second.generation, second.digest, second.updated_s) == ("serving", 4, "ab" * 32, 1000.5)
    assert again.labels("demo") == {"old": 1, "stable": 2}
    assert again.rollout("demo") == '{"stage": "shadow"}'
    assert again.rollout("other") is None
    assert [(entry.action, entry.at_s) for entry in again.audit(10)] == [("promote", 1000.5)]
    again.close()


def test_what_is_dropped_is_gone(path: Path) -> None:
    journal = Journal(path)
    journal.save_version("demo", 1, "serving")
    journal.set_label("demo", "stable", 1)
    journal.save_rollout("demo", "{}")
    journal.forget_version("demo", 1)
    journal.drop_label("demo", "stable")
    journal.drop_rollout("demo")
    journal.drop_label("demo", "never")
    assert (journal.versions(), journal.labels("demo"), journal.rollout("demo")) == ([], {}, None)
    journal.close()


def test_a_transaction_that_breaks_leaves_nothing(path: Path) -> None:
    journal = Journal(path)

    def breaks() -> None:
        with journal.transaction():
            journal.set_label("demo", "stable", 2)
            journal.record("admin", "promote", "demo@2", "ok")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        breaks()
    assert (journal.labels("demo"), journal.audit(10)) == ({}, [])
    journal.set_label("demo", "stable", 3)
    assert journal.labels("demo") == {"stable": 3}
    journal.close()


def test_a_writer_killed_at_any_time_has_written_whole_transactions_only(path: Path) -> None:
    seen = 0
    for delay_s in (0.05, 0.2, 0.11, 0.4):
        writer = subprocess.Popen(
            [sys.executable, "-P", str(WRITER), str(path)], stdout=subprocess.PIPE, env=environment()
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"open\n"
        time.sleep(delay_s)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        journal = Journal(path)
        newest = journal.audit(1)[0]
        assert journal.labels("demo") == {"stable": int(newest.subject.removeprefix("demo@"))}
        assert any(record.version == journal.labels("demo")["stable"] for record in journal.versions())
        assert newest.id > seen
        seen = newest.id
        journal.close()
    assert seen > 1000


def test_a_second_server_is_refused_until_the_first_has_gone(path: Path) -> None:
    script = "import sys, pathlib; from aruntime.control.journal import Journal; Journal(pathlib.Path(sys.argv[1]))"
    command = [*python("aruntime.cli.main")[:2], "-c", script, str(path)]
    first = Journal(path)
    second = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert f"JournalRefused: another server uses the journal at {path}" in second.stderr
    with pytest.raises(JournalRefused, match="another server"):
        Journal(path)
    first.close()
    assert subprocess.run(command, env=environment()).returncode == 0


def test_the_folder_and_the_files_are_this_users_alone(path: Path) -> None:
    journal = Journal(path)
    journal.set_label("demo", "stable", 1)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert set(modes) == {path.name, path.name + ".lock", path.name + "-wal", path.name + "-shm"}
    assert set(modes.values()) == {0o600}
    journal.close()


@pytest.mark.parametrize(
    "damage", [b"not a database, and long enough to be looked at" * 100, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_what_is_no_database_is_refused_and_left_alone(path: Path, damage: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(damage)
    with pytest.raises(JournalRefused, match=r"cannot be used|damaged"):
        Journal(path)
    assert path.read_bytes() == damage


def test_a_journal_with_a_torn_page_is_refused(path: Path) -> None:
    journal = Journal(path)
    with journal.transaction():
        for number in range(2000):
            journal.record("admin", "load", f"demo@{number}", "ok")
    journal.close()
    data = bytearray(path.read_bytes())
    data[4096 * 8 : 4096 * 9] = b"\xa5" * 4096
    path.write_bytes(data)
    with pytest.raises(JournalRefused, match=r"damaged|cannot be used"):
        Journal(path)


def test_a_newer_journal_and_another_database_are_refused(path: Path) -> None:
    Journal(path).close()
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(JournalRefused, match="schema 99"):
        Journal(path)
    other = path.with_name("other.sqlite")
    database = sqlite3.connect(other)
    database.execute("CREATE TABLE mine (x)")
    database.close()
    with pytest.raises(JournalRefused, match="not a journal"):
        Journal(other)


def test_an_older_journal_is_brought_up_to_date(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(path)
    journal.set_label("demo", "stable", 1)
    journal.close()
    more = "ALTER TABLE labels ADD COLUMN why TEXT NOT NULL DEFAULT ''"
    monkeypatch.setattr(journal_room, "_MIGRATIONS", (*journal_room._MIGRATIONS, more))
    again = Journal(path)
    assert again.labels("demo") == {"stable": 1}
    again.close()
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA user_version").fetchone() == (2,)
    assert "why" in database.execute("SELECT sql FROM sqlite_schema WHERE name = 'labels'").fetchone()[0]
    database.close()


def test_a_link_in_place_of_the_journal_is_refused(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(JournalRefused, match="there can be no journal"):
        Journal(path)
    assert not (tmp_path / "elsewhere").exists()


def test_the_audit_trail_keeps_the_newest_and_pages_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_room, "AUDIT_MAX", 100)
    journal = Journal(None)
    for number in range(250):
        journal.record("admin", "load", f"demo@{number}", "ok")
    first = journal.audit(60)
    rest = journal.audit(60, before_id=first[-1].id)
    assert [entry.subject for entry in first + rest] == [f"demo@{number}" for number in range(249, 149, -1)]
    assert journal.audit(0) == journal.audit(-1) == []
    journal.close()


def test_words_that_are_too_long_are_cut_and_a_rollout_that_is_too_long_is_refused() -> None:
    journal = Journal(None)
    journal.record("admin", "load", "demo", "failed", "x" * 5000)
    journal.save_version("demo", 1, "failed", "x" * 5000)
    assert len(journal.audit(1)[0].detail) == len(journal.versions()[0].reason) == 2000
    with pytest.raises(ValueError, match="at most 65536 bytes"):
        journal.save_rollout("demo", "ä" * 40_000)
    journal.close()


def test_a_journal_that_can_no_longer_be_written_says_so(path: Path) -> None:
    journal = Journal(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("DROP TABLE labels")
    other.close()
    with pytest.raises(JournalFailed, match="no such table"):
        journal.set_label("demo", "stable", 1)
    with pytest.raises(JournalFailed, match="no such table"):
        journal.labels("demo")
    journal.record("admin", "load", "demo", "ok")
    journal.close()


def test_the_default_place_depends_on_the_repository_and_not_on_how_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ARUNTIME_JOURNAL", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path)
    place = default_path(tmp_path / "a")
    assert place == default_path(Path("a")) == default_path(tmp_path / "a" / ".." / "a")
    assert place != default_path(tmp_path / "b")
    assert place.parent.parent == tmp_path / "state" / "aruntime"
    assert len(place.parent.name) == 16
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_path(Path("a")).is_relative_to(tmp_path / "home" / ".local" / "state")
    monkeypatch.setenv("ARUNTIME_JOURNAL", "/var/lib/j.sqlite")
    assert default_path(Path("a")) == Path("/var/lib/j.sqlite")
