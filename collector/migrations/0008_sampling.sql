-- An edge may thin its packet facts: a row then stands for `represents` packets of its stream and second. Every sum of the
-- rollups weighs by it. What is kept in full (losses, duplicates, reordered packets, large changes in transit time) has 1, and
-- groups never cross a second, so packets, lost, duplicates and reordered stay exact; bytes, transit times and levels
-- are estimates. `kept` counts the rows behind them: kept = packets where nothing was thinned.
-- A weight in a sketch is the value so many times over; the bound keeps a foreign one from filling the memory.
--
-- Audio levels (RFC 6464) by stream: packets that tell theirs, those of silence (-60 dBov or below), and the loudest.

ALTER TABLE sidetone.packets
    ADD COLUMN IF NOT EXISTS represents UInt32 DEFAULT 1 CODEC(T64, ZSTD(1));

ALTER TABLE sidetone.packets_1s
    ADD COLUMN IF NOT EXISTS kept SimpleAggregateFunction(sum, UInt64) DEFAULT packets CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS levels SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS silent SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS level_dbov_max SimpleAggregateFunction(max, Nullable(Int8)) CODEC(ZSTD(1));

ALTER TABLE sidetone.packets_1m
    ADD COLUMN IF NOT EXISTS kept SimpleAggregateFunction(sum, UInt64) DEFAULT packets CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS levels SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS silent SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS level_dbov_max SimpleAggregateFunction(max, Nullable(Int8)) CODEC(ZSTD(1));

ALTER TABLE sidetone.region_1s
    ADD COLUMN IF NOT EXISTS kept SimpleAggregateFunction(sum, UInt64) DEFAULT packets CODEC(T64, ZSTD(1));

ALTER TABLE sidetone.region_1m
    ADD COLUMN IF NOT EXISTS kept SimpleAggregateFunction(sum, UInt64) DEFAULT packets CODEC(T64, ZSTD(1));

-- The minute's views first: they take what the second's give. A view's query is changed in one step, so that no insert
-- finds a rollup without its view.
ALTER TABLE sidetone.packets_1m_mv MODIFY QUERY
SELECT
    f.region AS region,
    f.tap AS tap,
    f.session_id AS session_id,
    f.stream AS stream,
    toStartOfMinute(f.second, 'UTC') AS minute,
    sum(f.packets) AS packets,
    sum(f.bytes) AS bytes,
    sum(f.lost) AS lost,
    sum(f.duplicates) AS duplicates,
    sum(f.reordered) AS reordered,
    sum(f.transit_abs_us_sum) AS transit_abs_us_sum,
    sum(f.transit_count) AS transit_count,
    max(f.transit_abs_us_max) AS transit_abs_us_max,
    min(f.min_ext_seq) AS min_ext_seq,
    max(f.max_ext_seq) AS max_ext_seq,
    sum(f.kept) AS kept,
    sum(f.levels) AS levels,
    sum(f.silent) AS silent,
    max(f.level_dbov_max) AS level_dbov_max
FROM sidetone.packets_1s AS f
GROUP BY region, tap, session_id, stream, minute;

ALTER TABLE sidetone.region_1m_mv MODIFY QUERY
SELECT
    f.region AS region,
    f.tap AS tap,
    toStartOfMinute(f.second, 'UTC') AS minute,
    sum(f.packets) AS packets,
    sum(f.bytes) AS bytes,
    sum(f.lost) AS lost,
    sum(f.duplicates) AS duplicates,
    sum(f.reordered) AS reordered,
    sum(f.transit_abs_us_sum) AS transit_abs_us_sum,
    sum(f.transit_count) AS transit_count,
    quantilesDDMergeState(0.01, 0.5, 0.9, 0.95, 0.99)(f.transit_abs_us_dd) AS transit_abs_us_dd,
    sum(f.kept) AS kept
FROM sidetone.region_1s AS f
GROUP BY region, tap, minute;

ALTER TABLE sidetone.packets_1s_mv MODIFY QUERY
SELECT
    f.region AS region,
    f.tap AS tap,
    f.session_id AS session_id,
    f.stream AS stream,
    toDateTime(f.observed_ns, 'UTC') AS second,
    sum(f.represents) AS packets,
    sum(toUInt64(f.size_bytes) * f.represents) AS bytes,
    sum(toInt64(f.newly_lost) * f.represents) AS lost,
    sumIf(f.represents, f.duplicate) AS duplicates,
    sumIf(f.represents, f.reordered) AS reordered,
    sum(toUInt64(ifNull(abs(f.transit_delta_us), 0)) * f.represents) AS transit_abs_us_sum,
    sumIf(f.represents, isNotNull(f.transit_delta_us)) AS transit_count,
    max(ifNull(abs(f.transit_delta_us), 0)) AS transit_abs_us_max,
    min(f.ext_seq) AS min_ext_seq,
    max(f.ext_seq) AS max_ext_seq,
    count() AS kept,
    sumIf(f.represents, isNotNull(f.audio_level_dbov)) AS levels,
    sumIf(f.represents, ifNull(f.audio_level_dbov <= -60, false)) AS silent,
    max(f.audio_level_dbov) AS level_dbov_max
FROM sidetone.packets AS f
GROUP BY region, tap, session_id, stream, second;

ALTER TABLE sidetone.region_1s_mv MODIFY QUERY
SELECT
    f.region AS region,
    f.tap AS tap,
    toDateTime(f.observed_ns, 'UTC') AS second,
    sum(f.represents) AS packets,
    sum(toUInt64(f.size_bytes) * f.represents) AS bytes,
    sum(toInt64(f.newly_lost) * f.represents) AS lost,
    sumIf(f.represents, f.duplicate) AS duplicates,
    sumIf(f.represents, f.reordered) AS reordered,
    sum(toUInt64(ifNull(abs(f.transit_delta_us), 0)) * f.represents) AS transit_abs_us_sum,
    sumIf(f.represents, isNotNull(f.transit_delta_us)) AS transit_count,
    quantilesDDStateArrayIf(0.01, 0.5, 0.9, 0.95, 0.99)(
        arrayWithConstant(least(f.represents, 1000), assumeNotNull(abs(f.transit_delta_us))),
        isNotNull(f.transit_delta_us)
    ) AS transit_abs_us_dd,
    count() AS kept
FROM sidetone.packets AS f
GROUP BY region, tap, second;
