-- A file as version 1 of the schema left it, with a row in every table.
PRAGMA journal_mode = wal;
CREATE TABLE cursors (
    device BLOB NOT NULL, stream INTEGER NOT NULL, channel BLOB NOT NULL, segment INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (device, stream, channel, segment)
) STRICT, WITHOUT ROWID;

CREATE TABLE messages (
    channel BLOB NOT NULL, lamport INTEGER NOT NULL, time_ms INTEGER NOT NULL, hash BLOB NOT NULL,
    device BLOB NOT NULL, segment INTEGER NOT NULL, seq INTEGER NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (channel, lamport, time_ms, hash)
) STRICT, WITHOUT ROWID;

CREATE TABLE lock_events (
    lamport INTEGER NOT NULL, time_ms INTEGER NOT NULL, hash BLOB NOT NULL,
    PRIMARY KEY (lamport, time_ms, hash)
) STRICT, WITHOUT ROWID;

CREATE TABLE community (
    id BLOB PRIMARY KEY, name TEXT NOT NULL, floor INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE members (
    device BLOB PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL,
    admitted_by BLOB NOT NULL, admitted_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE channels (
    channel BLOB PRIMARY KEY, name TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE machines (
    device BLOB PRIMARY KEY, memory_bytes INTEGER NOT NULL, micros_per_mib INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE machine_addresses (
    device BLOB NOT NULL, position INTEGER NOT NULL, address TEXT NOT NULL,
    PRIMARY KEY (device, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE shards (
    device BLOB NOT NULL, model BLOB NOT NULL,
    layer_start INTEGER NOT NULL, layer_end INTEGER NOT NULL,
    PRIMARY KEY (device, model)
) STRICT, WITHOUT ROWID;

CREATE TABLE models (
    model BLOB PRIMARY KEY, name TEXT NOT NULL, architecture TEXT NOT NULL, licence TEXT NOT NULL,
    size_bytes INTEGER NOT NULL, layer_count INTEGER NOT NULL,
    context_length INTEGER NOT NULL, hidden_size INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE model_holders (
    model BLOB NOT NULL, position INTEGER NOT NULL, device BLOB NOT NULL,
    PRIMARY KEY (model, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE balances (
    device BLOB PRIMARY KEY, balance INTEGER NOT NULL, held INTEGER NOT NULL, available INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE locks (
    lock BLOB PRIMARY KEY, payer BLOB NOT NULL, payee BLOB NOT NULL, job BLOB NOT NULL,
    max INTEGER NOT NULL, settled INTEGER NOT NULL, closed INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO cursors VALUES (x'01', 4, x'02', 0, 2);
INSERT INTO messages VALUES (x'02', 1, 5, x'03', x'01', 0, 1, 'hello'), (x'02', 2, 6, x'04', x'01', 0, 2, 'again');
INSERT INTO lock_events VALUES (3, 7, x'05');
INSERT INTO community VALUES (zeroblob(32), 'Garden', -500);
INSERT INTO members VALUES (x'01', 'Ana', 'owner', x'01', 5);
INSERT INTO channels VALUES (x'02', 'hall');
INSERT INTO machines VALUES (x'01', 10, 0);
INSERT INTO machine_addresses VALUES (x'01', 0, '127.0.0.1:1');
INSERT INTO shards VALUES (x'01', x'06', 0, 1);
INSERT INTO models VALUES (x'06', 'Model', 'llama', '', 100, 2, 128, 8);
INSERT INTO model_holders VALUES (x'06', 0, x'01');
INSERT INTO balances VALUES (x'01', 0, 0, 500);
INSERT INTO locks VALUES (x'05', x'01', x'01', x'07', 9, 0, 0);

-- ExoV
PRAGMA application_id = 1165520726;
PRAGMA user_version = 1;
