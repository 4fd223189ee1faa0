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
-- column evidence text : the same in words
WITH
    {session:String} AS only_session,
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
    evidence
FROM errors
WHERE empty({kind:Array(String)}) OR has({kind:Array(String)}, kind)
ORDER BY at_ns DESC, session_id, kind
LIMIT {limit:UInt32}
-- The last one costs more than all the rest of working out the query, and gains nothing here.
SETTINGS join_use_nulls = 1, enable_materialized_cte = 1, optimize_and_compare_chain = 0
