-- title: Turn-taking errors, one by one
-- Judgements on the stored facts, newest first; docs/metrics.md defines each kind. Kinds may overlap: a missed barge-in
-- is often a talk-over as well.
-- param from DateTime64(9, 'UTC') = now-1h : errors at or after
-- param to DateTime64(9, 'UTC') = now : errors before
-- param region Array(String) = : only these regions; empty for all
-- param session String = : only this call; empty for all
-- param kind Array(String) = : only these kinds; empty for all
-- param limit UInt32 = 1000 : at most so many rows
-- column session_id uuid : the call
-- column region text : region of the edge that the call entered by
-- column turn_id number : the user's turn it belongs to; 0 before the first
-- column at_ns ns since epoch : when it happened
-- column kind text : agent_cut_user, late_response, missed_response, false_barge_in, missed_barge_in, slow_yield, talk_over, dead_air or abandoned
-- column side text : who is charged with it: agent or user (dead air that the user owed)
-- column value_ms ms : what was measured
-- column threshold_ms ms : the limit that it was held against
-- column evidence text : the same in words; for agent_cut_user also how long the user had paused, and what silence was taken for the turn's end: an endpointing that waits for longer than the pause would not have cut in
WITH
    {session:String} AS only_session,
    {to:DateTime64(9, 'UTC')} + toIntervalMinute(5) AS facts_to,
-- include: parts/thresholds.sql
,
-- include: parts/turn_facts.sql
,
-- include: parts/turns.sql
,
-- include: parts/speech.sql
,
-- include: parts/errors.sql
SELECT
    toString(session_id) AS session_id,
    region,
    turn_id,
    toUnixTimestamp64Nano(at_ns) AS at_ns,
    kind,
    side,
    value_ms,
    toFloat64(threshold_ms) AS threshold_ms,
    concat(
        evidence,
        if(silence_ms IS NULL, '', concat('; the turn\'s end was decided after ', toString(round(assumeNotNull(silence_ms))), ' ms of silence'))
    ) AS evidence
FROM
(
    SELECT
        e.*,
        -- The last decision before the agent began.
        if(kind = 'agent_cut_user', arrayLast(x -> x.1 <= at_ns, m.decisions).2, NULL) AS silence_ms
    FROM errors AS e
    LEFT JOIN (SELECT session_id, turn_id, decisions FROM turn_marks) AS m ON e.session_id = m.session_id AND e.turn_id = m.turn_id
)
WHERE empty({kind:Array(String)}) OR has({kind:Array(String)}, kind)
ORDER BY at_ns DESC, session_id, kind
LIMIT {limit:UInt32}
-- The last one costs more than all the rest of working out the query, and gains nothing here.
SETTINGS join_use_nulls = 1, enable_materialized_cte = 1, optimize_and_compare_chain = 0
