"""The journal: what runs, kept in SQLite, so that it survives the server. The repository holds what there is to run.

    versions   model, version -> state, reason, generation, digest of its MANIFEST.json, when that was written
    labels     model, label   -> version
    rollouts   model          -> the rollout's own JSON
    audit      who did what to which version, and how it ended; the newest AUDIT_MAX are kept

Called from one event loop and synchronous: each call is one short transaction, `transaction` makes one of several. In
WAL mode a process killed at any instruction has written whole transactions only. One server at a time: it holds a lock
beside the file as long as it lives.
"""

import contextlib
import fcntl
import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from aruntime.base import log
from aruntime.wire.control import VersionState

AUDIT_MAX = 100_000
AUDIT_PAGE_MAX = 1_000
ROLLOUT_BYTES_MAX = 64 * 1024
_WORDS_MAX = 2_000
_BUSY_S = 1.0  # somebody who looks into the file with a tool of his own

# The schema of version n is what the first n of these have made; one that was released never changes.
_MIGRATIONS = (
    """
    CREATE TABLE versions (
        model TEXT NOT NULL, version INTEGER NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL,
        generation INTEGER NOT NULL, digest TEXT NOT NULL, updated_s REAL NOT NULL, PRIMARY KEY (model, version)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE labels (
        model TEXT NOT NULL, label TEXT NOT NULL, version INTEGER NOT NULL, PRIMARY KEY (model, label)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE rollouts (model TEXT NOT NULL PRIMARY KEY, state TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE audit (
        id INTEGER PRIMARY KEY AUTOINCREMENT, at_s REAL NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL,
        subject TEXT NOT NULL, outcome TEXT NOT NULL, detail TEXT NOT NULL
    ) STRICT;
    """,
)


class JournalRefused(ValueError):
    """The journal cannot be opened; the message says why, in words for the operator."""


class JournalFailed(OSError):
    """Something could not be read or written: the disk is full, or the file was damaged meanwhile."""


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """A version as it was when this was last written. `digest` is the sha256 of its MANIFEST.json."""

    model: str
    version: int
    state: VersionState
    reason: str = ""
    generation: int = 0
    digest: str = ""
    updated_s: float = 0.0


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """What somebody did. `at_s` is seconds since 1970, `subject` a model or `model@version`."""

    id: int
    at_s: float
    actor: str
    action: str
    subject: str
    outcome: str
    detail: str


class Journal:
    """Keeps records; knows no rule about them. `trouble`: why the last attempt to write failed, if it did."""

    def __init__(self, path: Path | None, clock: Callable[[], float] = time.time) -> None:
        """Open the journal at `path`, or make it; None keeps everything in memory. `clock`: seconds since 1970.

        JournalRefused: another server has it, it is no journal, it is damaged, or a newer server has written it.
        """
        self.trouble = ""
        self._clock = clock
        self._lock = None if path is None else _acquire(path)
        try:
            self._database = _open(path)
        except BaseException:
            self._release()
            raise

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """What is written within is written as a whole or, if the block raises, not at all; they may nest."""
        if self._database.in_transaction:
            yield
            return
        try:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                self._database.rollback()
                raise
        except sqlite3.Error as error:
            raise JournalFailed(f"the journal cannot be written: {error}") from None

    def attempt(self, write: Callable[..., object], *arguments: object) -> None:
        """Call `write` in one transaction, for what goes on whether it can be written or not.

        A failure is logged, and is `trouble` until a later attempt succeeds: meanwhile nothing is remembered.
        """
        try:
            with self.transaction():
                write(*arguments)
        except JournalFailed as error:
            self.trouble = str(error)
            log.error("journal.failed", reason=self.trouble)
        else:
            self.trouble = ""

    def versions(self) -> list[VersionRecord]:
        """Every version that was ever saved and not forgotten, by model and number."""
        rows = self._rows(
            "SELECT model, version, state, reason, generation, digest, updated_s FROM versions ORDER BY model, version"
        )
        return [VersionRecord(*cast("tuple[str, int, VersionState, str, int, str, float]", row)) for row in rows]

    def save_version(
        self, model: str, version: int, state: VersionState, reason: str = "", generation: int = 0, digest: str = ""
    ) -> None:
        """Write how a version is, in place of what was written before."""
        words = (model, version, state, reason[:_WORDS_MAX], generation, digest, self._clock())
        self._write("INSERT OR REPLACE INTO versions VALUES (?, ?, ?, ?, ?, ?, ?)", *words)

    def forget_version(self, model: str, version: int) -> None:
        """It is no longer in the repository. Its labels stay: they are the caller's to move."""
        self._write("DELETE FROM versions WHERE model = ? AND version = ?", model, version)

    def labels(self, model: str) -> dict[str, int]:
        """The versions of a model by label."""
        rows = self._rows("SELECT label, version FROM labels WHERE model = ? ORDER BY label", model)
        return dict(cast("list[tuple[str, int]]", rows))

    def set_label(self, model: str, label: str, version: int) -> None:
        """Let a label name this version."""
        self._write("INSERT OR REPLACE INTO labels VALUES (?, ?, ?)", model, label, version)

    def drop_label(self, model: str, label: str) -> None:
        """Let a label name nothing."""
        self._write("DELETE FROM labels WHERE model = ? AND label = ?", model, label)

    def rollout(self, model: str) -> str | None:
        """What was last saved of a model's rollout; None when there is none."""
        rows = self._rows("SELECT state FROM rollouts WHERE model = ?", model)
        return cast(str, rows[0][0]) if rows else None

    def save_rollout(self, model: str, text: str) -> None:
        """Write a rollout, in place of the model's last. ValueError beyond ROLLOUT_BYTES_MAX."""
        if len(text.encode()) > ROLLOUT_BYTES_MAX:
            raise ValueError(f"a rollout takes at most {ROLLOUT_BYTES_MAX} bytes, got {len(text.encode())}")
        self._write("INSERT OR REPLACE INTO rollouts VALUES (?, ?)", model, text)

    def drop_rollout(self, model: str) -> None:
        """The model has no rollout any more."""
        self._write("DELETE FROM rollouts WHERE model = ?", model)

    def record(self, actor: str, action: str, subject: str, outcome: str, detail: str = "") -> None:
        """Add to the audit trail, if that can be written. Words beyond 2,000 characters are cut."""
        words = [word[:_WORDS_MAX] for word in (actor, action, subject, outcome, detail)]

        def add() -> None:
            added = self._database.execute("INSERT INTO audit VALUES (NULL, ?, ?, ?, ?, ?, ?)", (self._clock(), *words))
            self._database.execute("DELETE FROM audit WHERE id <= ?", (cast(int, added.lastrowid) - AUDIT_MAX,))

        self.attempt(add)

    def audit(self, limit: int, before_id: int | None = None) -> list[AuditEntry]:
        """The newest entries first, at most `limit` and at most AUDIT_PAGE_MAX; `before_id` pages back."""
        rows = self._rows(
            "SELECT id, at_s, actor, action, subject, outcome, detail FROM audit WHERE id < ? ORDER BY id DESC LIMIT ?",
            (1 << 63) - 1 if before_id is None else before_id,
            min(max(limit, 0), AUDIT_PAGE_MAX),
        )
        return [AuditEntry(*cast("tuple[int, float, str, str, str, str, str]", row)) for row in rows]

    def close(self) -> None:
        """Let the next server have it."""
        self._database.close()
        self._release()

    def _write(self, statement: str, *values: object) -> None:
        with self.transaction():
            self._database.execute(statement, values)

    def _rows(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        try:
            return self._database.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise JournalFailed(f"the journal cannot be read: {error}") from None

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def default_path(repository: Path) -> Path:
    """Where the journal of the server of `repository` is: ARUNTIME_JOURNAL, else in this user's folder of states."""
    if named := os.environ.get("ARUNTIME_JOURNAL"):
        return Path(named)
    states = os.environ.get("XDG_STATE_HOME")
    home = Path(states) if states else Path.home() / ".local" / "state"
    digest = hashlib.sha256(os.fsencode(repository.resolve())).hexdigest()
    return home / "aruntime" / digest[:16] / "journal.sqlite"


def _acquire(path: Path) -> int:
    """Take the journal for this process; the descriptor holds it. The folder and both files are this user's alone."""
    lock = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise JournalRefused(f"there can be no journal at {path}: {error.strerror}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # SQLite gives its files beside this one the same mode.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
    except BlockingIOError:
        os.close(fd)
        raise JournalRefused(f"another server uses the journal at {path}") from None
    except OSError as error:
        os.close(fd)
        raise JournalRefused(f"there can be no journal at {path}: {error.strerror}") from None
    return fd


def _open(path: Path | None) -> sqlite3.Connection:
    database = sqlite3.connect(path or ":memory:", timeout=_BUSY_S, isolation_level=None)
    try:
        mode = database.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal" and path is not None:
            raise JournalRefused(f"the journal at {path} needs a local disk: the file system has no shared memory")
        database.execute("PRAGMA synchronous = NORMAL")
        if (found := database.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise JournalRefused(f"the journal at {path} is damaged: {found}")
        _migrate(database, path)
    except sqlite3.Error as error:
        database.close()
        raise JournalRefused(f"the journal at {path} cannot be used: {error}") from None
    except BaseException:
        database.close()
        raise
    return database


def _migrate(database: sqlite3.Connection, path: Path | None) -> None:
    """Bring the schema up to this server's, one version at a time, each as a whole."""
    version: int = database.execute("PRAGMA user_version").fetchone()[0]
    if version > len(_MIGRATIONS):
        raise JournalRefused(
            f"the journal at {path} has schema {version}; this server knows up to {len(_MIGRATIONS)}: it is older"
        )
    if version == 0 and database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        raise JournalRefused(f"the database at {path} is not a journal")
    for number, script in enumerate(_MIGRATIONS[version:], version + 1):
        database.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;")
