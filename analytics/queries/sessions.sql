-- title: Calls, newest first
-- Calls offered in the window, with what each came to, also after the window's end (within a day of it).
-- param from DateTime64(9, 'UTC') = now-1h : calls offered at or after
-- param to DateTime64(9, 'UTC') = now : calls offered before
-- param region Array(String) = : only these regions; empty for all
-- param errors Bool = false : only calls with a turn-taking error
-- param limit UInt32 = 100 : at most so many
-- column session_id uuid : the call
-- column region text : region of the edge
-- column began_ns ns since epoch : offered
-- column ended_ns ns since epoch : closed; NULL while it lasts or if the end was not recorded
-- column duration_ms ms : from offered to closed; NULL if not closed
-- column client text : the attribute `client`, or else `user_agent`; NULL without either
-- column close_reason text : why it ended; NULL if it has not
-- column turns count : user turns
-- column latency_n count : turns with a response latency
-- column latency_p50_ms ms : response latency, median of the call's turns; NULL without any
-- column latency_max_ms ms : response latency, worst of the call's turns; NULL without any
-- column packet_loss ratio : loss between client and edge over the call; NULL without packets
-- column errors count : turn-taking errors charged to the agent's side
-- column error_kinds list : their kinds
WITH
    '' AS only_session,
    {to:DateTime64(9, 'UTC')} + toIntervalDay(1) AS facts_to,
-- include: parts/thresholds.sql
,
-- include: parts/calls.sql
,
    turn_facts AS MATERIALIZED
    (
        SELECT session_id, toString(region) AS region, turn_id, toString(kind) AS kind, at_ns, observed_ns, reason, silence_ms
        FROM sidetone.turns
        WHERE session_id IN (SELECT session_id FROM calls)
            AND observed_ns >= {from:DateTime64(9, 'UTC')} AND observed_ns < facts_to
    ),
-- include: parts/turns.sql
,
-- include: parts/speech.sql
,
-- include: parts/errors.sql
SELECT
    toString(c.session_id) AS session_id,
    c.region AS region,
    toUnixTimestamp64Nano(c.began_ns) AS began_ns,
    toUnixTimestamp64Nano(e.closed_ns) AS ended_ns,
    (toUnixTimestamp64Nano(e.closed_ns) - toUnixTimestamp64Nano(c.began_ns)) / 1e6 AS duration_ms,
    nullIf(c.client, '') AS client,
    e.close_reason AS close_reason,
    ifNull(t.turns, 0) AS turns,
    ifNull(t.latency_n, 0) AS latency_n,
    t.latency_p50_ms AS latency_p50_ms,
    t.latency_max_ms AS latency_max_ms,
    if(p.received - p.doubled + p.missing > 0, p.missing / (p.received - p.doubled + p.missing), NULL) AS packet_loss,
    ifNull(x.errors, 0) AS errors,
    x.kinds AS error_kinds
FROM calls AS c
LEFT JOIN
(
    SELECT
        session_id, count() AS turns, count(response_ms) AS latency_n,
        quantileExactOrNull(0.5)(response_ms) AS latency_p50_ms, max(response_ms) AS latency_max_ms
    FROM turns
    GROUP BY session_id
) AS t ON c.session_id = t.session_id
LEFT JOIN
(
    SELECT session_id, count() AS errors, arraySort(groupUniqArray(kind)) AS kinds
    FROM all_errors
    WHERE side = 'agent'
    GROUP BY session_id
) AS x ON c.session_id = x.session_id
LEFT JOIN
(
    SELECT session_id, min(observed_ns) AS closed_ns, toString(any(reason)) AS close_reason
    FROM sidetone.sessions
    WHERE step = 'closed' AND session_id IN (SELECT session_id FROM calls)
    GROUP BY session_id
) AS e ON c.session_id = e.session_id
LEFT JOIN
(
    SELECT session_id, toInt64(sum(packets)) AS received, sum(lost) AS missing, toInt64(sum(duplicates)) AS doubled
    FROM sidetone.packets_1s
    WHERE tap = 'edge_up' AND session_id IN (SELECT session_id FROM calls)
    GROUP BY session_id
) AS p ON c.session_id = p.session_id
WHERE NOT {errors:Bool} OR errors > 0
ORDER BY c.began_ns DESC, session_id
LIMIT {limit:UInt32}
-- The last one costs more than all the rest of working out the query, and gains nothing here.
SETTINGS join_use_nulls = 1, enable_materialized_cte = 1, optimize_and_compare_chain = 0
