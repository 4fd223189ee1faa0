-- title: Facts stored, by type
-- Rows, and rows distinct by the type's identity: the two differ only where a fact was stored twice.
-- param from DateTime64(9, 'UTC') = 1970-01-02T00:00:00 : facts observed from here on
-- param to DateTime64(9, 'UTC') = 2200-01-01T00:00:00 : facts observed before this
-- column fact_type text : fact type
-- column rows count : rows in the store
-- column distinct_rows count : rows distinct by identity
SELECT type_name AS fact_type, rows, distinct_rows FROM
(
SELECT 'audio' AS type_name, count() AS rows, uniqExact(host_id, session_id, tap, stream, observed_ns) AS distinct_rows
FROM sidetone.audio
WHERE observed_ns >= {from:DateTime64(9, 'UTC')} AND observed_ns < {to:DateTime64(9, 'UTC')}
UNION ALL
SELECT 'client' AS type_name, count() AS rows, uniqExact(host_id, session_id, kind, observed_ns) AS distinct_rows
FROM sidetone.clients
WHERE observed_ns >= {from:DateTime64(9, 'UTC')} AND observed_ns < {to:DateTime64(9, 'UTC')}
UNION ALL
SELECT 'emitter' AS type_name, count() AS rows, uniqExact(host_id, session_id, producer, fact_type, observed_ns) AS distinct_rows
FROM sidetone.emitters
WHERE observed_ns >= {from:DateTime64(9, 'UTC')} AND observed_ns < {to:DateTime64(9, 'UTC')}
UNION ALL
SELECT 'frame' AS type_name, count() AS rows, uniqExact(host_id, session_id, direction, tick, observed_ns) AS distinct_rows
FROM sidetone.frames
WHERE observed_ns >= {from:DateTime64(9, 'UTC')} AND observed_ns < {to:DateTime64(9, 'UTC')}
UNION ALL
SELECT 'input' AS type_name, count() AS rows, uniqExact(host_id, session_id, sequence, observed_ns) AS distinct_rows
FROM sidetone.inputs
WHERE observed_ns >= {from:DateTime64(9, 'UTC')} AND observed_ns < {to:DateTime64(9, 'UTC')}
UNION ALL
SELECT 'leg' AS type_name, count() AS rows, uniqExact(host_id, session_id, leg, method, observed_ns) AS distinct_rows
FROM sidetone.legs
WHERE observed_ns >= {from:DateTime64(9, 'UTC')} AND observed_ns < {to:DateTime64(9, 'UTC')}
UNION ALL
SELECT 'packet' AS type_name, count() AS rows, uniqExact(host_id, session_id, tap, stream, observed_ns) AS distinct_rows
FROM sidetone.packets
WHERE observed_ns >= {from:DateTime64(9, 'UTC')} AND observed_ns < {to:DateTime64(9, 'UTC')}
UNION ALL
SELECT 'session' AS type_name, count() AS rows, uniqExact(host_id, session_id, step, observed_ns) AS distinct_rows
FROM sidetone.sessions
WHERE observed_ns >= {from:DateTime64(9, 'UTC')} AND observed_ns < {to:DateTime64(9, 'UTC')}
UNION ALL
SELECT 'turn' AS type_name, count() AS rows, uniqExact(host_id, session_id, turn_id, kind, observed_ns) AS distinct_rows
FROM sidetone.turns
WHERE observed_ns >= {from:DateTime64(9, 'UTC')} AND observed_ns < {to:DateTime64(9, 'UTC')}
)
ORDER BY type_name
