-- title: Calls, turns, latency, loss and turn-taking errors by region
-- Counts add up over adjoining windows; percentiles are computed over the window's own turns and never averaged.
-- param from DateTime64(9, 'UTC') = now-1h : start of the window, inclusive; packets count by whole seconds
-- param to DateTime64(9, 'UTC') = now : end of the window, exclusive
-- param region Array(String) = : only these regions; empty for all
-- param total Bool = false : add a row over all the regions asked for, first
-- column scope text : `region`, or `all` for the row over all regions asked for
-- column region text : region of the edge; empty for all
-- column calls count : calls offered in the window
-- column turns count : user turns that began in the window
-- column latency_n count : turns with a response latency, which the percentiles stand on
-- column latency_coverage ratio : latency_n ÷ turns; NULL without turns
-- column latency_p50_ms ms : response latency, median; NULL without answered turns
-- column latency_p90_ms ms : response latency, 90th percentile
-- column latency_p95_ms ms : response latency, 95th percentile
-- column latency_p99_ms ms : response latency, 99th percentile
-- column latency_p99_low_n flag : true where fewer than 100 answered turns stand behind p99
-- column early_answers count : turns with a negative latency: the agent began before the user had finished
-- column uplink_packets count : packets received at the edge from clients, duplicates included
-- column uplink_kept count : facts behind them; fewer than packets where the edge thinned its facts away from bad moments
-- column uplink_lost count : packets lost between client and edge
-- column uplink_duplicates count : packets that came again
-- column uplink_reordered count : packets that came out of order
-- column packet_loss ratio : uplink_lost ÷ (uplink_packets − uplink_duplicates + uplink_lost); NULL without packets
-- column jitter_mean_ms ms : mean of |D| (RFC 3550 transit change) at the edge; NULL where unmeasured; an estimate where facts were thinned
-- column jitter_p95_ms ms : 95th percentile of |D| at the edge, relative error at most 1 %, beside that of thinned facts
-- column downlink_reports count : client reports behind the downlink loss
-- column downlink_lost count : packets that clients reported lost; NULL without reports
-- column downlink_loss ratio : reported lost ÷ (reported received + lost); NULL without reports
-- column errors count : turn-taking errors charged to the agent's side
-- column errors_per_turn ratio : errors ÷ turns; NULL without turns
-- column agent_cut_user count : the agent began in the user's pause or speech
-- column late_response count : answers later than 2.5 s
-- column missed_response count : no answer within 5 s or before the user spoke again
-- column false_barge_in count : the agent gave way to nothing
-- column missed_barge_in count : the agent did not give way to a barge-in
-- column slow_yield count : the agent gave way to a barge-in after more than 1 s
-- column talk_over count : both spoke for 0.5 s or more and the agent did not give way
-- column dead_air count : mutual silence over 3 s on the agent's turn
-- column abandoned count : the user left while the agent owed an answer
WITH
    '' AS only_session,
    {to:DateTime64(9, 'UTC')} + toIntervalMinute(5) AS facts_to,
    60 AS bucket_s,
-- include: parts/thresholds.sql
,
-- include: parts/turn_facts.sql
,
-- include: parts/turns.sql
,
-- include: parts/speech.sql
,
-- include: parts/errors.sql
,
-- include: parts/network.sql
,
-- include: parts/downlink.sql
,
-- include: parts/calls.sql
,
    by_call AS (SELECT region, count() AS calls FROM calls GROUP BY region WITH ROLLUP),
    by_turn AS
    (
        SELECT
            region,
            count() AS turns,
            count(response_ms) AS answered,
            quantilesExactOrNull(0.5, 0.9, 0.95, 0.99)(response_ms) AS latency,
            countIf(response_ms < 0) AS early_answers
        FROM window_turns
        GROUP BY region WITH ROLLUP
    ),
    by_error AS
    (
        SELECT
            region,
            countIf(side = 'agent') AS errors,
            countIf(kind = 'agent_cut_user') AS agent_cut_user,
            countIf(kind = 'late_response') AS late_response,
            countIf(kind = 'missed_response') AS missed_response,
            countIf(kind = 'false_barge_in') AS false_barge_in,
            countIf(kind = 'missed_barge_in') AS missed_barge_in,
            countIf(kind = 'slow_yield') AS slow_yield,
            countIf(kind = 'talk_over') AS talk_over,
            countIf(kind = 'dead_air' AND side = 'agent') AS dead_air,
            countIf(kind = 'abandoned') AS abandoned
        FROM errors
        GROUP BY region WITH ROLLUP
    ),
    by_packet AS
    (
        SELECT
            region,
            toInt64(sum(packets)) AS received,
            toInt64(sum(kept)) AS known,
            sum(lost) AS missing,
            toInt64(sum(duplicates)) AS doubled,
            sum(reordered) AS disordered,
            sum(transit_abs_us_sum) AS change_us,
            sum(transit_count) AS changes,
            quantilesDDMerge(0.01, 0.5, 0.9, 0.95, 0.99)(transit_abs_us_dd) AS change_quantiles_us
        FROM network_rows
        WHERE tap = 'edge_up'
        GROUP BY region WITH ROLLUP
    ),
    by_report AS
    (
        SELECT region, count() AS reports, sum(lost) AS missing, sum(received) AS received
        FROM downlink
        GROUP BY region WITH ROLLUP
    ),
    regions AS
    (
        SELECT region FROM (SELECT region FROM calls UNION ALL SELECT region FROM turn_facts UNION ALL SELECT region FROM network_rows)
        GROUP BY region WITH ROLLUP
    )
SELECT
    if(r.region = '', 'all', 'region') AS scope,
    r.region AS region,
    ifNull(c.calls, 0) AS calls,
    ifNull(t.turns, 0) AS turns,
    ifNull(t.answered, 0) AS latency_n,
    if(t.turns > 0, t.answered / t.turns, NULL) AS latency_coverage,
    if(t.answered > 0, t.latency[1], NULL) AS latency_p50_ms,
    if(t.answered > 0, t.latency[2], NULL) AS latency_p90_ms,
    if(t.answered > 0, t.latency[3], NULL) AS latency_p95_ms,
    if(t.answered > 0, t.latency[4], NULL) AS latency_p99_ms,
    ifNull(t.answered, 0) < 100 AS latency_p99_low_n,
    ifNull(t.early_answers, 0) AS early_answers,
    ifNull(p.received, 0) AS uplink_packets,
    ifNull(p.known, 0) AS uplink_kept,
    ifNull(p.missing, 0) AS uplink_lost,
    ifNull(p.doubled, 0) AS uplink_duplicates,
    ifNull(p.disordered, 0) AS uplink_reordered,
    if(p.received - p.doubled + p.missing > 0, p.missing / (p.received - p.doubled + p.missing), NULL) AS packet_loss,
    if(p.changes > 0, p.change_us / p.changes / 1000, NULL) AS jitter_mean_ms,
    if(p.changes > 0, p.change_quantiles_us[3] / 1000, NULL) AS jitter_p95_ms,
    ifNull(d.reports, 0) AS downlink_reports,
    if(d.reports > 0, d.missing, NULL) AS downlink_lost,
    if(d.received + d.missing > 0, d.missing / (d.received + d.missing), NULL) AS downlink_loss,
    ifNull(e.errors, 0) AS errors,
    if(t.turns > 0, ifNull(e.errors, 0) / t.turns, NULL) AS errors_per_turn,
    ifNull(e.agent_cut_user, 0) AS agent_cut_user,
    ifNull(e.late_response, 0) AS late_response,
    ifNull(e.missed_response, 0) AS missed_response,
    ifNull(e.false_barge_in, 0) AS false_barge_in,
    ifNull(e.missed_barge_in, 0) AS missed_barge_in,
    ifNull(e.slow_yield, 0) AS slow_yield,
    ifNull(e.talk_over, 0) AS talk_over,
    ifNull(e.dead_air, 0) AS dead_air,
    ifNull(e.abandoned, 0) AS abandoned
FROM regions AS r
LEFT JOIN by_call AS c ON r.region = c.region
LEFT JOIN by_turn AS t ON r.region = t.region
LEFT JOIN by_error AS e ON r.region = e.region
LEFT JOIN by_packet AS p ON r.region = p.region
LEFT JOIN by_report AS d ON r.region = d.region
WHERE r.region != '' OR {total:Bool}
ORDER BY r.region
-- The last one costs more than all the rest of working out the query, and gains nothing here.
SETTINGS join_use_nulls = 1, enable_materialized_cte = 1, optimize_and_compare_chain = 0
