-- title: Response latency, turn by turn
-- What the relay measured, and what the listener is estimated to have waited.
-- param from DateTime64(9, 'UTC') = now-1h : turns that began at or after
-- param to DateTime64(9, 'UTC') = now : turns that began before
-- param region Array(String) = : only these regions; empty for all
-- param session String = : only this call; empty for all
-- column session_id uuid : the call
-- column region text : region of the edge
-- column turn_id number : the user's turn
-- column user_speech_stopped_ns ns since epoch : acoustic end of the user's speech; NULL if none was seen
-- column agent_audio_started_ns ns since epoch : first voiced packet of the answer; NULL if there was none
-- column agent_audio_stopped_ns ns since epoch : end of the answer's first stretch; NULL while it lasts
-- column response_ms ms : the difference, at the relay; negative if the agent began first; NULL if either is missing
-- column one_way_ms ms : network, one way: half of the round trip near the turn (symmetric assumed); NULL if unmeasured
-- column playout_ms ms : the client's receive buffer near the turn; NULL if the client did not report it
-- column listener_ms ms : response_ms + network up and down + playout; NULL if any of them is
WITH
    {session:String} AS only_session,
-- include: parts/turn_facts.sql
,
-- include: parts/turns.sql
,
-- include: parts/transport.sql
SELECT
    toString(t.session_id) AS session_id,
    t.region AS region,
    t.turn_id AS turn_id,
    toUnixTimestamp64Nano(t.user_stopped_ns) AS user_speech_stopped_ns,
    toUnixTimestamp64Nano(t.agent_started_ns) AS agent_audio_started_ns,
    toUnixTimestamp64Nano(t.agent_stopped_ns) AS agent_audio_stopped_ns,
    t.response_ms AS response_ms,
    w.one_way_ms AS one_way_ms,
    w.playout_ms AS playout_ms,
    t.response_ms + w.uplink_ms + w.downlink_ms + w.playout_ms AS listener_ms
FROM window_turns AS t
LEFT JOIN turn_transport AS w ON t.session_id = w.session_id AND t.turn_id = w.turn_id
ORDER BY t.began_ns, session_id, turn_id
-- The last one costs more than all the rest of working out the query, and gains nothing here.
SETTINGS join_use_nulls = 1, enable_materialized_cte = 1, optimize_and_compare_chain = 0
