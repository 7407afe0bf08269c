"""The tables of the state, and what must be true of their rows."""

from __future__ import annotations

from typing import Final

from monitor.database import Design

VERSION: Final = 4
SCHEMA: Final = """
CREATE TABLE offsets (model TEXT, topic TEXT, partition INTEGER, next_offset INTEGER NOT NULL, sum INTEGER NOT NULL,
    PRIMARY KEY (model, topic, partition)) WITHOUT ROWID;
CREATE TABLE lines (model TEXT PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE memories (model TEXT, segment TEXT, body BLOB NOT NULL, PRIMARY KEY (model, segment));
CREATE TABLE open_windows (model TEXT, segment TEXT, start_ms INTEGER, n_rows INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (model, segment, start_ms));
CREATE TABLE waiting (model TEXT, side TEXT, number INTEGER, body BLOB NOT NULL, PRIMARY KEY (model, side, number));
CREATE TABLE open_samples (n INTEGER PRIMARY KEY, model TEXT NOT NULL, start_ms INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX open_samples_by_window ON open_samples (model, start_ms);
CREATE TABLE samples (model TEXT, number INTEGER, closed_ms INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (model, number));
CREATE INDEX samples_by_age ON samples (closed_ms);
CREATE TABLE windows (model TEXT, segment TEXT, number INTEGER, start_ms INTEGER NOT NULL, end_ms INTEGER NOT NULL,
    n_rows INTEGER NOT NULL, n_late INTEGER NOT NULL, revision INTEGER NOT NULL, closed_ms INTEGER NOT NULL,
    n_ok INTEGER NOT NULL, n_drift INTEGER NOT NULL, n_unknown INTEGER NOT NULL, bins TEXT NOT NULL,
    glance BLOB NOT NULL, body BLOB NOT NULL, PRIMARY KEY (model, segment, number));
CREATE INDEX windows_by_start ON windows (model, segment, start_ms);
CREATE INDEX windows_by_age ON windows (closed_ms);
CREATE INDEX windows_by_bins ON windows (bins);
CREATE TABLE kept_references (bins TEXT PRIMARY KEY, id TEXT NOT NULL, cells BLOB NOT NULL, profile BLOB NOT NULL,
    kept_ms INTEGER NOT NULL, rows BLOB NOT NULL DEFAULT x'');
CREATE TABLE verdicts (model TEXT, segment TEXT, number INTEGER, position INTEGER, column TEXT NOT NULL,
    outcome TEXT NOT NULL, effect REAL, evidence REAL, body BLOB NOT NULL,
    PRIMARY KEY (model, segment, number, position)) WITHOUT ROWID;
CREATE TABLE incidents (id TEXT PRIMARY KEY, model TEXT NOT NULL, segment TEXT NOT NULL, state TEXT NOT NULL,
    severity TEXT NOT NULL, opened_window INTEGER NOT NULL, opened_ms INTEGER NOT NULL, changed_ms INTEGER NOT NULL,
    body BLOB NOT NULL);
CREATE TABLE changes (incident TEXT, n INTEGER, made_ms INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (incident, n)) WITHOUT ROWID;
CREATE TABLE triggers (id TEXT PRIMARY KEY, incident TEXT NOT NULL, model TEXT NOT NULL, step TEXT NOT NULL,
    made_ms INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE board (one INTEGER PRIMARY KEY CHECK (one = 1), body BLOB NOT NULL, sum INTEGER NOT NULL);
CREATE TABLE orders (n INTEGER PRIMARY KEY, done_ms INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE jobs (name TEXT PRIMARY KEY, last_ms INTEGER NOT NULL, outcome TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE pace (one INTEGER PRIMARY KEY CHECK (one = 1), at_ms INTEGER NOT NULL);
CREATE TABLE outbox (n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, incident TEXT NOT NULL, channel TEXT NOT NULL,
    purpose TEXT NOT NULL, body BLOB NOT NULL, state TEXT NOT NULL DEFAULT 'pending',
    attempts INTEGER NOT NULL DEFAULT 0, doubtful INTEGER NOT NULL DEFAULT 0, queued_ms INTEGER NOT NULL,
    next_attempt_ms INTEGER NOT NULL, done_ms INTEGER, receipt TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT '', sum INTEGER NOT NULL);
CREATE INDEX outbox_by_state ON outbox (state, n);
CREATE INDEX outbox_by_incident ON outbox (incident, channel, n);
CREATE TABLE dead_letters (n INTEGER PRIMARY KEY, model TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL,
    record_offset INTEGER NOT NULL, kind TEXT NOT NULL, reason TEXT NOT NULL, head BLOB NOT NULL,
    seen_ms INTEGER NOT NULL, produced INTEGER NOT NULL DEFAULT 0, UNIQUE (model, topic, partition, record_offset));
CREATE INDEX dead_letters_waiting ON dead_letters (n) WHERE produced = 0;
"""
OFFSET_SUM: Final = "crc(model, topic, partition, next_offset)"
BOARD_SUM: Final = "crc(body)"
NOTICE_SUM: Final = "crc(id, incident, channel, purpose, body)"
DESIGN: Final = Design(
    SCHEMA,
    VERSION,
    steps={
        2: f"UPDATE offsets SET sum = {OFFSET_SUM}; "  # noqa: S608  # constants, here and below
        f"UPDATE board SET sum = {BOARD_SUM}; UPDATE outbox SET sum = {NOTICE_SUM}"
    },
    sound={
        "offsets": f"sum = {OFFSET_SUM}",
        "board": f"sum = {BOARD_SUM}",
        "outbox": f"sum = {NOTICE_SUM}",
        "lines": "sound(state)",
        "memories": "sound(body)",
        "open_windows": "sound(body)",
        "waiting": "sound(body)",
        "open_samples": "sound(body)",
        "windows": "sound(body)",
    },
)
