-- title: Facts stored, by type
-- Rows and rows distinct by identity for each fact type; the two differ only if a fact was stored twice.
-- param from DateTime64(9, 'UTC') = 1970-01-02T00:00:00 : facts observed from here on
-- param to DateTime64(9, 'UTC') = now+1d : facts observed before this
-- column fact text : fact type
-- column rows count : rows in the store
-- column distinct_rows count : rows distinct by the type's identity
SELECT 'session' AS fact, count() AS rows, uniqExact(host_id, session_id, step, observed_ns) AS distinct_rows
FROM sidetone.sessions WHERE observed_ns >= {from:DateTime64(9, 'UTC')} AND observed_ns < {to:DateTime64(9, 'UTC')}
