-- title: Latency, loss and errors over time, by region
-- One row per slice of time and region, empty slices included; what is unknown in a slice is NULL. The slices' counts
-- sum to the overview's.
-- param from DateTime64(9, 'UTC') = now-1h : start of the window, inclusive; packets count by whole seconds
-- param to DateTime64(9, 'UTC') = now : end of the window, exclusive
-- param region Array(String) = : only these regions; empty for all
-- param slice_s UInt32 = 0 : length of a slice in seconds; 0 picks one that makes at most 120
-- column at_ns ns since epoch : the slice's start; slices are aligned to the epoch, so the outer two may be cut
-- column region text : region of the edge
-- column slice_s s : length of the slice
-- column turns count : user turns that began in the slice
-- column latency_n count : turns with a response latency
-- column latency_p50_ms ms : response latency, median; NULL without any
-- column latency_p90_ms ms : response latency, 90th percentile; NULL without any
-- column latency_p95_ms ms : response latency, 95th percentile; NULL without any
-- column latency_p99_ms ms : response latency, 99th percentile; NULL without any
-- column uplink_packets count : packets received at the edge
-- column uplink_kept count : facts behind them; fewer where the edge thinned its facts
-- column uplink_lost count : packets lost between client and edge
-- column packet_loss ratio : loss between client and edge; NULL without packets
-- column jitter_mean_ms ms : mean of |D| at the edge; NULL where unmeasured
-- column jitter_p95_ms ms : 95th percentile of |D| at the edge, relative error at most 1 %
-- column errors count : turn-taking errors charged to the agent's side
-- column error_kinds names and counts : the same by kind
WITH
    '' AS only_session,
    {to:DateTime64(9, 'UTC')} + toIntervalMinute(5) AS facts_to,
    toUnixTimestamp64Nano({from:DateTime64(9, 'UTC')}) AS from_ns,
    toUnixTimestamp64Nano({to:DateTime64(9, 'UTC')}) AS to_ns,
    (to_ns - from_ns) / 120e9 AS finest_s,
    toInt64(if(
        {slice_s:UInt32} > 0,
        {slice_s:UInt32},
        ifNull(
            arrayFirstOrNull(x -> x >= finest_s, [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400]),
            86400 * ceil(finest_s / 86400)
        )
    )) AS bucket_s,
    bucket_s * 1000000000 AS bucket_ns,
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
    by_turn AS
    (
        SELECT
            intDiv(toUnixTimestamp64Nano(began_ns), bucket_ns) AS slice, region,
            count() AS turns, count(response_ms) AS answered,
            quantilesExactOrNull(0.5, 0.9, 0.95, 0.99)(response_ms) AS latency
        FROM window_turns
        GROUP BY slice, region
    ),
    by_error AS
    (
        SELECT
            intDiv(toUnixTimestamp64Nano(at_ns), bucket_ns) AS slice, region,
            sum(n) AS errors, mapFromArrays(groupArray(kind), groupArray(n)) AS error_kinds
        FROM
        (
            SELECT min(at_ns) AS at_ns, region, kind, count() AS n
            FROM errors
            WHERE side = 'agent'
            GROUP BY intDiv(toUnixTimestamp64Nano(errors.at_ns), bucket_ns), region, kind
        )
        GROUP BY slice, region
    ),
    by_packet AS
    (
        SELECT
            intDiv(toInt64(toUnixTimestamp(at)), bucket_s) AS slice, region,
            toInt64(sum(packets)) AS received, toInt64(sum(kept)) AS known, sum(lost) AS missing, toInt64(sum(duplicates)) AS doubled,
            sum(transit_abs_us_sum) AS change_us, sum(transit_count) AS changes,
            quantilesDDMerge(0.01, 0.5, 0.9, 0.95, 0.99)(transit_abs_us_dd) AS change_quantiles_us
        FROM network_rows
        WHERE tap = 'edge_up'
        GROUP BY slice, region
    ),
    grid AS
    (
        SELECT region, arrayJoin(range(intDiv(from_ns, bucket_ns), intDiv(to_ns - 1, bucket_ns) + 1)) AS slice
        FROM (SELECT DISTINCT region FROM (SELECT region FROM turn_facts UNION ALL SELECT region FROM network_rows))
    )
SELECT
    toInt64(g.slice * bucket_ns) AS at_ns,
    g.region AS region,
    toInt64(bucket_s) AS slice_s,
    ifNull(t.turns, 0) AS turns,
    ifNull(t.answered, 0) AS latency_n,
    if(t.answered > 0, t.latency[1], NULL) AS latency_p50_ms,
    if(t.answered > 0, t.latency[2], NULL) AS latency_p90_ms,
    if(t.answered > 0, t.latency[3], NULL) AS latency_p95_ms,
    if(t.answered > 0, t.latency[4], NULL) AS latency_p99_ms,
    ifNull(p.received, 0) AS uplink_packets,
    ifNull(p.known, 0) AS uplink_kept,
    ifNull(p.missing, 0) AS uplink_lost,
    if(p.received - p.doubled + p.missing > 0, p.missing / (p.received - p.doubled + p.missing), NULL) AS packet_loss,
    if(p.changes > 0, p.change_us / p.changes / 1000, NULL) AS jitter_mean_ms,
    if(p.changes > 0, p.change_quantiles_us[3] / 1000, NULL) AS jitter_p95_ms,
    ifNull(e.errors, 0) AS errors,
    e.error_kinds AS error_kinds
FROM grid AS g
LEFT JOIN by_turn AS t ON g.slice = t.slice AND g.region = t.region
LEFT JOIN by_error AS e ON g.slice = e.slice AND g.region = e.region
LEFT JOIN by_packet AS p ON g.slice = p.slice AND g.region = p.region
ORDER BY at_ns, region
-- The last one costs more than all the rest of working out the query, and gains nothing here.
SETTINGS join_use_nulls = 1, enable_materialized_cte = 1, optimize_and_compare_chain = 0
