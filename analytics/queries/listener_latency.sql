-- title: How long each caller waited, by its own ear
-- What an instrumented client measured (from its user's last voiced sample to the answer's first one played, by one clock)
-- beside the relay's estimate for a client that measures nothing. With the clocks compared over the data channel the way
-- to the relay and back falls apart into its parts, each wrong by the clocks' error and by what relay and client differ in
-- about the end of speech.
-- param from DateTime64(9, 'UTC') = now-1h : turns that began at or after
-- param to DateTime64(9, 'UTC') = now : turns that began before
-- param region Array(String) = : only these regions; empty for all
-- param session String = : only this call; empty for all
-- column session_id uuid : the call
-- column region text : region of the edge
-- column turn_id number : the user's turn
-- column listener_ms ms : what the client heard, else the estimate; NULL if neither is known
-- column method text : client or estimate; NULL if listener_ms is
-- column heard_ms ms : by the client's own microphone and ear; NULL if it did not tell
-- column estimate_ms ms : response_ms + network up and down + playout; NULL if any of them is
-- column response_ms ms : at the relay: acoustic end to first voiced packet; NULL if either is missing
-- column uplink_ms ms : client's last voiced sample to the relay's acoustic end; below 0 where the relay took an earlier one; NULL without both clocks
-- column downlink_ms ms : first voiced packet to the first voiced sample played; NULL without both clocks
-- column clock_error_ms ms : uplink_ms and downlink_ms may be wrong by this, in opposite directions, as far as the clocks go; NULL if not compared
WITH
    {session:String} AS only_session,
-- include: parts/turn_facts.sql
,
-- include: parts/turns.sql
,
-- include: parts/transport.sql
,
-- include: parts/listener.sql
SELECT
    toString(t.session_id) AS session_id,
    t.region AS region,
    t.turn_id AS turn_id,
    coalesce(heard_ms, estimate_ms) AS listener_ms,
    multiIf(isNotNull(heard_ms), 'client', isNotNull(estimate_ms), 'estimate', NULL) AS method,
    h.heard_ms AS heard_ms,
    t.response_ms + w.uplink_ms + w.downlink_ms + w.playout_ms AS estimate_ms,
    t.response_ms AS response_ms,
    h.uplink_ms AS uplink_ms,
    h.downlink_ms AS downlink_ms,
    h.clock_error_ms AS clock_error_ms
FROM window_turns AS t
LEFT JOIN turn_transport AS w ON t.session_id = w.session_id AND t.turn_id = w.turn_id
LEFT JOIN turn_heard AS h ON t.session_id = h.session_id AND t.turn_id = h.turn_id
ORDER BY t.began_ns, session_id, turn_id
-- The last one costs more than all the rest of working out the query, and gains nothing here.
SETTINGS join_use_nulls = 1, enable_materialized_cte = 1, optimize_and_compare_chain = 0
