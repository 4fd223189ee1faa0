-- title: Who spoke when, in one call
-- Intervals of speech of both voices.
-- param session UUID : the call
-- column who text : user or agent
-- column turn_id number : the user's turn it belongs to
-- column start_ns ns since epoch : onset
-- column end_ns ns since epoch : end; NULL while it lasts or if the end was not recorded
-- column reason text : why the agent stopped; NULL for the user
-- column backchannel flag : a short sign of listening, no turn
WITH
    turn_facts AS
    (
        SELECT session_id, toString(region) AS region, turn_id, toString(kind) AS kind, at_ns, observed_ns, reason
        FROM sidetone.turns
        WHERE session_id = {session:UUID}
    ),
-- include: parts/speech_intervals.sql
SELECT
    s.who AS who,
    s.turn_id AS turn_id,
    toUnixTimestamp64Nano(s.start_ns) AS start_ns,
    toUnixTimestamp64Nano(s.end_ns) AS end_ns,
    if(s.who = 'agent', s.reason, NULL) AS reason,
    s.who = 'user' AND arrayExists(x -> x >= s.start_ns AND x <= coalesce(s.end_ns, s.start_ns + toIntervalSecond(1)), b.times)
        AS backchannel
FROM speech AS s
LEFT JOIN backchannels AS b ON s.session_id = b.session_id
ORDER BY start_ns, who
SETTINGS join_use_nulls = 1, enable_materialized_cte = 1
