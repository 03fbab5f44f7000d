"""A run directory: written stage by stage, read as often as wanted.

A completed stage is never lost: its request columns are written and synced first, then its
row is committed. A crash between the two leaves a file nobody refers to, and the stage is
run again by ``--resume``.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tuner import __version__
from tuner.campaign.types import ScaleEvent, StageResult
from tuner.errors import RunDirectoryError
from tuner.store import records
from tuner.store.columns import pack_log, pack_windows, unpack_log, unpack_windows
from tuner.store.files import write_whole

SCHEMA_VERSION = 1
JOURNAL = "journal.sqlite"
CAMPAIGN = "campaign"
APPLY = "apply"
"""Why an endpoint was changed."""

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE stage (
    idx INTEGER PRIMARY KEY,
    spec TEXT NOT NULL,
    started_at_unix_s REAL NOT NULL,
    health TEXT NOT NULL,
    windows BLOB NOT NULL,
    log_file TEXT,
    log_sha256 TEXT,
    details TEXT NOT NULL
);
CREATE TABLE scale_event (id INTEGER PRIMARY KEY, event TEXT NOT NULL);
CREATE TABLE restore (
    id INTEGER PRIMARY KEY,
    purpose TEXT NOT NULL,
    record TEXT NOT NULL,
    restored_at_unix_s REAL
);
CREATE TABLE note (id INTEGER PRIMARY KEY, at_unix_s REAL NOT NULL, kind TEXT, text TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Note:
    """Something worth telling later: a limit reached, an interruption, a voided stage."""

    at_unix_s: float
    kind: str
    text: str


class Run:
    """An open run directory. Use as a context manager."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._db = connection

    @classmethod
    def create(cls, path: Path, meta: Mapping[str, Any]) -> Self:
        """Make a new run directory.

        Raises
        ------
        RunDirectoryError
            If the directory already holds something.
        """
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise RunDirectoryError(
                "the run directory already holds something",
                value=str(path),
                allowed="an empty or new directory",
                hint=f"choose another --out, or go on with: tuner run PLAN --out {path} --resume",
            )
        path.mkdir(parents=True, exist_ok=True)
        (path / "stages").mkdir(exist_ok=True)
        db = sqlite3.connect(path / JOURNAL, timeout=10)
        _configure(db)
        with db:
            # one transaction: a journal exists either whole or not at all
            db.executescript(f"BEGIN;{_SCHEMA}COMMIT;")
            values = {
                "schema_version": SCHEMA_VERSION,
                "tuner_version": __version__,
                "created_at_unix_s": time.time(),
                **meta,
            }
            db.executemany(
                "INSERT INTO meta VALUES (?, ?)", [(k, json.dumps(v)) for k, v in values.items()]
            )
        return cls(path, db)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open an existing run directory.

        Raises
        ------
        RunDirectoryError
            If it is missing, not a run, damaged, or of another schema version.
        """
        journal = path / JOURNAL
        if not journal.is_file():
            raise RunDirectoryError(
                "not a run directory: it has no journal",
                value=str(path),
                allowed=f"a directory with {JOURNAL}, as tuner run writes it",
            )
        db = sqlite3.connect(journal, timeout=10)
        try:
            _configure(db)
            check = db.execute("PRAGMA quick_check").fetchone()[0]
            row = db.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
        except sqlite3.DatabaseError as error:
            db.close()
            raise _damaged(path, str(error)) from None
        version = json.loads(row[0]) if row else None
        if check != "ok" or version != SCHEMA_VERSION:
            db.close()
        if check != "ok":
            raise _damaged(path, str(check))
        if version != SCHEMA_VERSION:
            raise RunDirectoryError(
                "the run was written with another schema version",
                value=version,
                allowed=f"schema version {SCHEMA_VERSION}",
                hint="read it with the tuner version that wrote it, or measure again",
            )
        return cls(path, db)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the journal."""
        self._db.close()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.DatabaseError, ValueError, KeyError, TypeError) as error:
            raise _damaged(self.path, str(error)) from None

    # -- meta -----------------------------------------------------------------------------

    def meta(self) -> dict[str, Any]:
        """Everything known of the run as a whole: plan text, seed, versions, endpoint."""
        with self._reading():
            return {k: json.loads(v) for k, v in self._db.execute("SELECT key, value FROM meta")}

    def set_meta(self, key: str, value: Any) -> None:
        """Set one entry."""
        with self._db:
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))

    # -- stages ---------------------------------------------------------------------------

    def add_stage(self, result: StageResult) -> StageResult:
        """Keep a finished stage, durably, and return it as it will be read again.

        The search must decide on what is stored, or a resumed campaign could take another
        turn than the one that was interrupted.
        """
        index = result.spec.index
        name, digest = None, None
        if result.log is not None:
            data = pack_log(result.log)
            name, digest = f"stages/{index:04d}.npz", hashlib.sha256(data).hexdigest()
            write_whole(self.path / name, data)
        details: dict[str, object] = {
            "error_samples": [list(e) for e in result.error_samples],
            "cpu_utilization_percent": result.cpu_utilization_percent,
            "in_flight_at_start": result.in_flight_at_start,
            "in_flight_at_end": result.in_flight_at_end,
        }
        if result.chunk_gaps is not None:
            details["chunk_gaps"] = records.bins_of(result.chunk_gaps)
        with self._db:
            self._db.execute(
                "INSERT INTO stage VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    index,
                    records.spec_json(result.spec),
                    result.started_at_unix_s,
                    records.health_json(result.health),
                    pack_windows(result.windows),
                    name,
                    digest,
                    records.to_json(details),
                ),
            )
        row = self._db.execute("SELECT * FROM stage WHERE idx = ?", (index,)).fetchone()
        return self._stage(row)

    def stages(self) -> tuple[StageResult, ...]:
        """Every completed stage, in order.

        Raises
        ------
        RunDirectoryError
            If a stage's file is missing or is not the one that was written.
        """
        with self._reading():
            rows = self._db.execute("SELECT * FROM stage ORDER BY idx").fetchall()
            return tuple(self._stage(row) for row in rows)

    def _stage(self, row: tuple[Any, ...]) -> StageResult:
        _, spec, started, health, windows, log_file, digest, details = row
        log = None
        if log_file is not None:
            try:
                data = (self.path / log_file).read_bytes()
            except OSError as error:
                raise _damaged(self.path, f"{log_file}: {error.strerror}") from None
            if hashlib.sha256(data).hexdigest() != digest:
                raise _damaged(self.path, f"{log_file} is not the file that was written")
            log = unpack_log(data)
        more = records.from_json(details)
        return StageResult(
            spec=records.spec_of(spec),
            started_at_unix_s=started,
            log=log,
            windows=unpack_windows(windows),
            health=records.health_of(health),
            error_samples=tuple((str(t), int(n)) for t, n in more["error_samples"]),
            cpu_utilization_percent=more["cpu_utilization_percent"],
            in_flight_at_start=more["in_flight_at_start"],
            in_flight_at_end=more["in_flight_at_end"],
            chunk_gaps=records.histogram_of(more.get("chunk_gaps")),
        )

    # -- scale events, notes, restore records ---------------------------------------------

    def add_scale_event(self, event: ScaleEvent) -> None:
        """Keep a change of the instance count."""
        with self._db:
            self._db.execute(
                "INSERT INTO scale_event (event) VALUES (?)", (records.event_json(event),)
            )

    def scale_events(self) -> tuple[ScaleEvent, ...]:
        """Every change of the instance count, in order."""
        with self._reading():
            rows = self._db.execute("SELECT event FROM scale_event ORDER BY id").fetchall()
            return tuple(records.event_of(r[0]) for r in rows)

    def add_note(self, kind: str, text: str) -> None:
        """Keep a remark."""
        with self._db:
            self._db.execute(
                "INSERT INTO note (at_unix_s, kind, text) VALUES (?, ?, ?)",
                (time.time(), kind, text),
            )

    def notes(self) -> tuple[Note, ...]:
        """Every remark, in order."""
        with self._reading():
            rows = self._db.execute("SELECT at_unix_s, kind, text FROM note ORDER BY id").fetchall()
            return tuple(Note(*r) for r in rows)

    def record_before_change(self, record_json: str, purpose: str = CAMPAIGN) -> int:
        """Keep the state of an endpoint before the first change to it; returns the record's id.

        What a CAMPAIGN changes must be put back; what APPLY changes may be taken back.
        """
        with self._db:
            cursor = self._db.execute(
                "INSERT INTO restore (purpose, record) VALUES (?, ?)", (purpose, record_json)
            )
        return int(cursor.lastrowid or 0)

    def update_record(self, record_id: int, record_json: str) -> None:
        """Replace a record as more is changed."""
        with self._db:
            self._db.execute("UPDATE restore SET record = ? WHERE id = ?", (record_json, record_id))

    def mark_restored(self, record_id: int) -> None:
        """Say that the endpoint is as it was."""
        with self._db:
            self._db.execute(
                "UPDATE restore SET restored_at_unix_s = ? WHERE id = ?", (time.time(), record_id)
            )

    def unrestored(self, purpose: str = CAMPAIGN) -> tuple[tuple[int, str], ...]:
        """Records (id, JSON) of changes that have not been undone, newest first."""
        query = (
            "SELECT id, record FROM restore WHERE restored_at_unix_s IS NULL AND purpose = ? "
            "ORDER BY id DESC"
        )
        with self._reading():
            return tuple((int(i), str(r)) for i, r in self._db.execute(query, (purpose,)))

    def records(self, purpose: str = CAMPAIGN) -> tuple[str, ...]:
        """What was there before each change, as JSON, oldest first, put back or not."""
        query = "SELECT record FROM restore WHERE purpose = ? ORDER BY id"
        with self._reading():
            return tuple(str(r) for (r,) in self._db.execute(query, (purpose,)))


def _configure(db: sqlite3.Connection) -> None:
    # Rollback journal and full sync: what is committed survives a power cut, and the run
    # directory is plain files that can be copied.
    db.execute("PRAGMA journal_mode = DELETE")
    db.execute("PRAGMA synchronous = FULL")


def _damaged(path: Path, what: str) -> RunDirectoryError:
    return RunDirectoryError(
        f"the run directory is damaged: {what}",
        value=str(path),
        hint="restore it from a copy, or measure again with: tuner run",
    )
