"""Answers that are kept, in SQLite, so that any front end can tell them again.

    answers   id -> tenant, owner, status, the answer as JSON, what it answers
    events    id, number -> one event of its stream

All front ends of a server share the file; each is the owner of what it generates, and holds a lock on one byte of a
file beside it (an open file description's, fcntl(2)), which the kernel takes back when it dies: then nobody goes on
with its unfinished answers. A tenant has at most ANSWERS_MAX answers of BYTES_MAX bytes together, none older than
AGE_S; the oldest that have ended leave first. Synchronous, and used from one thread.
"""

import fcntl
import os
import secrets
import sqlite3
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

ANSWERS_MAX = 1_000
BYTES_MAX = 64 << 20
AGE_S = 30 * 86_400.0  # OpenAI's
EVENTS_PAGE = 256
RUNNING = "in_progress"
_BUSY_S = 2.0

_FLOCK = "hhqqi4x"  # struct flock: type, whence, start, length, pid

_VERSION = 1
_SCHEMA = f"""
    PRAGMA user_version = {_VERSION};
    CREATE TABLE IF NOT EXISTS answers (
        id TEXT PRIMARY KEY, tenant TEXT NOT NULL, owner INTEGER NOT NULL, status TEXT NOT NULL,
        created_s REAL NOT NULL, answer BLOB NOT NULL, items BLOB NOT NULL, bytes INTEGER NOT NULL,
        unwanted INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE INDEX IF NOT EXISTS by_tenant ON answers (tenant, created_s);
    CREATE INDEX IF NOT EXISTS by_owner ON answers (owner);
    CREATE INDEX IF NOT EXISTS by_age ON answers (created_s);
    CREATE TABLE IF NOT EXISTS events (
        id TEXT NOT NULL, number INTEGER NOT NULL, event BLOB NOT NULL, PRIMARY KEY (id, number)
    ) STRICT, WITHOUT ROWID;
    CREATE TRIGGER IF NOT EXISTS forget AFTER DELETE ON answers BEGIN DELETE FROM events WHERE id = OLD.id; END;
"""

Event = tuple[str, int, bytes]
"""An answer's id, the event's number, and its bytes."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer. `answer` and `items`, what it answers, are JSON; `owner` is the front end that generates it."""

    id: str
    tenant: str
    owner: int
    status: str
    answer: bytes
    items: bytes


class AnswerStore:
    """Keeps answers; knows no rule about what is in them. sqlite3.Error: the file cannot be read or written."""

    def __init__(self, path: Path | None, clock: Callable[[], float] = time.time) -> None:
        """Open the file at `path`, or make it; None keeps all in memory. `clock`: seconds since 1970. OSError."""
        self.owner = secrets.randbits(60)
        self._clock = clock
        self._owners: int | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
            mine = path.with_name(path.name + ".owners")
            self._owners = os.open(mine, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            fcntl.fcntl(self._owners, fcntl.F_OFD_SETLK, _byte(self.owner))
        self._database = sqlite3.connect(
            path or ":memory:", timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.execute("PRAGMA secure_delete = ON")  # what was forgotten is in no file
        if (version := self._database.execute("PRAGMA user_version").fetchone()[0]) > _VERSION:
            raise OSError(f"the answers have schema {version}; this server knows up to {_VERSION}: it is older")
        self._database.executescript(_SCHEMA)

    def lives(self, owner: int) -> bool:
        """Whether the front end that is this owner is there."""
        if owner == self.owner or self._owners is None:
            return owner == self.owner
        held = fcntl.fcntl(self._owners, fcntl.F_OFD_GETLK, _byte(owner))
        return bool(struct.unpack(_FLOCK, held)[0] != fcntl.F_UNLCK)

    def begin(self, answer: Kept) -> None:
        """Keep an answer. What is too much for its tenant then is forgotten."""
        size = len(answer.answer) + len(answer.items)
        row = (answer.id, answer.tenant, answer.owner, answer.status, self._clock(), answer.answer, answer.items, size)
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.execute("INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)", row)
            self._trim(answer.tenant)

    def write(self, events: Iterable[Event], running: Iterable[str]) -> list[str]:
        """Keep events; which of the answers that are `running` here nobody wants any more."""
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            self._add(events)
        rows = self._database.execute("SELECT id FROM answers WHERE owner = ? AND NOT unwanted", (self.owner,))
        wanted = {row[0] for row in rows}
        return [id_ for id_ in running if id_ not in wanted]

    def end(self, id_: str, status: str, answer: bytes, events: Iterable[Event] = ()) -> None:
        """An answer has ended: how, as what, and with which last events. All of it is kept, or nothing."""
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            self._add(events)
            self._database.execute(
                "UPDATE answers SET status = ?, bytes = bytes - length(answer) + ?, answer = ? WHERE id = ?",
                (status, len(answer), answer, id_),
            )

    def find(self, tenant: str, id_: str) -> Kept | None:
        """A tenant's answer; None when it has no such one, or it is too old."""
        rows = self._database.execute(
            "SELECT id, tenant, owner, status, answer, items FROM answers"
            " WHERE id = ? AND tenant = ? AND created_s >= ?",
            (id_, tenant, self._clock() - AGE_S),
        ).fetchall()
        return Kept(*rows[0]) if rows else None

    def left(self) -> list[Kept]:
        """The unfinished answers of front ends that are gone."""
        rows = self._database.execute(
            "SELECT id, tenant, owner, status, answer, items FROM answers WHERE status = ?", (RUNNING,)
        ).fetchall()
        return [kept for row in rows if not self.lives((kept := Kept(*row)).owner)]

    def events(self, id_: str, after: int) -> list[tuple[int, bytes]]:
        """An answer's next events beyond number `after`, as far as they are kept, EVENTS_PAGE at most."""
        rows = self._database.execute(
            "SELECT number, event FROM events WHERE id = ? AND number > ? ORDER BY number LIMIT ?",
            (id_, after, EVENTS_PAGE),
        )
        return cast("list[tuple[int, bytes]]", rows.fetchall())

    def last_event(self, id_: str) -> int:
        """The number of the last event that is kept; -1 when there is none."""
        found = self._database.execute("SELECT max(number) FROM events WHERE id = ?", (id_,)).fetchone()[0]
        return -1 if found is None else cast(int, found)

    def forget(self, tenant: str, id_: str) -> bool:
        """Forget a tenant's answer; False when it has no such one."""
        return self._database.execute("DELETE FROM answers WHERE id = ? AND tenant = ?", (id_, tenant)).rowcount > 0

    def unwant(self, id_: str) -> None:
        """Somebody wants it to end; its owner sees it when it writes next."""
        self._database.execute("UPDATE answers SET unwanted = 1 WHERE id = ?", (id_,))

    def close(self) -> None:
        """Let go of the file; what is unfinished has nobody then."""
        self._database.close()
        if self._owners is not None:
            os.close(self._owners)

    def _add(self, events: Iterable[Event]) -> None:
        """Events of an answer that was forgotten meanwhile are forgotten too."""
        for id_, number, event in events:
            row = (id_, number, event, id_)
            added = self._database.execute(
                "INSERT OR IGNORE INTO events SELECT ?, ?, ? WHERE EXISTS (SELECT 1 FROM answers WHERE id = ?)", row
            )
            if added.rowcount:
                self._database.execute("UPDATE answers SET bytes = bytes + ? WHERE id = ?", (len(event), id_))

    def _trim(self, tenant: str) -> None:
        self._database.execute(
            """
            DELETE FROM answers WHERE status != ?2 AND (created_s < ?3 OR id IN (
                SELECT id FROM (
                    SELECT id, row_number() OVER newest AS place, sum(bytes) OVER newest AS size FROM answers
                    WHERE tenant = ?1 WINDOW newest AS (ORDER BY created_s DESC, id)
                ) WHERE place > ?4 OR size > ?5
            ))
            """,
            (tenant, RUNNING, self._clock() - AGE_S, ANSWERS_MAX, BYTES_MAX),
        )


def answers_beside(journal: Path) -> Path:
    """Where the answers of a server are that has this journal."""
    return journal.with_name(f"{journal.stem}-answers.sqlite")


def _byte(place: int) -> bytes:
    """A lock on one byte."""
    return struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, place, 1, 0)
