-- Rollups of packets, kept by incremental views on every insert: per stream and per region, 1 s chained into 1 min.
--
-- Every column is a key or a mergeable state, so windows add up and a replayed insert is dropped as a whole.
-- Loss over any window = sum(lost) / (sum(packets) - sum(duplicates) + sum(lost)).
-- Mean transit change = sum(transit_abs_us_sum) / sum(transit_count); where the count is 0, it and the maximum are unknown, not zero.

CREATE TABLE IF NOT EXISTS sidetone.packets_1s
(
    region LowCardinality(String) CODEC(ZSTD(1)),
    tap LowCardinality(String) CODEC(ZSTD(1)),
    session_id UUID CODEC(ZSTD(1)),
    stream UInt32 CODEC(Delta, ZSTD(1)),
    second DateTime('UTC') CODEC(Delta, ZSTD(1)),
    packets SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    bytes SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    lost SimpleAggregateFunction(sum, Int64) CODEC(T64, ZSTD(1)),
    duplicates SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    reordered SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    transit_abs_us_sum SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    transit_count SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    transit_abs_us_max SimpleAggregateFunction(max, UInt32) CODEC(T64, ZSTD(1)),
    min_ext_seq SimpleAggregateFunction(min, Int64) CODEC(Delta, ZSTD(1)),
    max_ext_seq SimpleAggregateFunction(max, Int64) CODEC(Delta, ZSTD(1)),
    INDEX time second TYPE minmax GRANULARITY 1
)
ENGINE = AggregatingMergeTree
PARTITION BY toDate(second)
ORDER BY (region, session_id, tap, stream, second)
${ttl_rollup_1s}
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = ${dedup_window};

CREATE TABLE IF NOT EXISTS sidetone.packets_1m
(
    region LowCardinality(String) CODEC(ZSTD(1)),
    tap LowCardinality(String) CODEC(ZSTD(1)),
    session_id UUID CODEC(ZSTD(1)),
    stream UInt32 CODEC(Delta, ZSTD(1)),
    minute DateTime('UTC') CODEC(Delta, ZSTD(1)),
    packets SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    bytes SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    lost SimpleAggregateFunction(sum, Int64) CODEC(T64, ZSTD(1)),
    duplicates SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    reordered SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    transit_abs_us_sum SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    transit_count SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    transit_abs_us_max SimpleAggregateFunction(max, UInt32) CODEC(T64, ZSTD(1)),
    min_ext_seq SimpleAggregateFunction(min, Int64) CODEC(Delta, ZSTD(1)),
    max_ext_seq SimpleAggregateFunction(max, Int64) CODEC(Delta, ZSTD(1)),
    INDEX time minute TYPE minmax GRANULARITY 1
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(minute)
ORDER BY (region, session_id, tap, stream, minute)
${ttl_rollup_1m}
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = ${dedup_window};

-- Percentiles by region: DDSketch states, relative error at most 1 %.
CREATE TABLE IF NOT EXISTS sidetone.region_1s
(
    region LowCardinality(String) CODEC(ZSTD(1)),
    tap LowCardinality(String) CODEC(ZSTD(1)),
    second DateTime('UTC') CODEC(Delta, ZSTD(1)),
    packets SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    bytes SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    lost SimpleAggregateFunction(sum, Int64) CODEC(T64, ZSTD(1)),
    duplicates SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    reordered SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    transit_abs_us_sum SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    transit_count SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    transit_abs_us_dd AggregateFunction(quantilesDD(0.01, 0.5, 0.9, 0.95, 0.99), UInt32) CODEC(ZSTD(1))
)
ENGINE = AggregatingMergeTree
PARTITION BY toDate(second)
ORDER BY (region, tap, second)
${ttl_rollup_1s}
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = ${dedup_window};

CREATE TABLE IF NOT EXISTS sidetone.region_1m
(
    region LowCardinality(String) CODEC(ZSTD(1)),
    tap LowCardinality(String) CODEC(ZSTD(1)),
    minute DateTime('UTC') CODEC(Delta, ZSTD(1)),
    packets SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    bytes SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    lost SimpleAggregateFunction(sum, Int64) CODEC(T64, ZSTD(1)),
    duplicates SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    reordered SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    transit_abs_us_sum SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    transit_count SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    transit_abs_us_dd AggregateFunction(quantilesDD(0.01, 0.5, 0.9, 0.95, 0.99), UInt32) CODEC(ZSTD(1))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(minute)
ORDER BY (region, tap, minute)
${ttl_rollup_1m}
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = ${dedup_window};

CREATE MATERIALIZED VIEW IF NOT EXISTS sidetone.packets_1m_mv TO sidetone.packets_1m AS
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
    max(f.max_ext_seq) AS max_ext_seq
FROM sidetone.packets_1s AS f
GROUP BY region, tap, session_id, stream, minute;

CREATE MATERIALIZED VIEW IF NOT EXISTS sidetone.region_1m_mv TO sidetone.region_1m AS
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
    quantilesDDMergeState(0.01, 0.5, 0.9, 0.95, 0.99)(f.transit_abs_us_dd) AS transit_abs_us_dd
FROM sidetone.region_1s AS f
GROUP BY region, tap, minute;

-- The views that read the facts come last: until they stand, no rollup may hear of an insert that another misses.
CREATE MATERIALIZED VIEW IF NOT EXISTS sidetone.packets_1s_mv TO sidetone.packets_1s AS
SELECT
    f.region AS region,
    f.tap AS tap,
    f.session_id AS session_id,
    f.stream AS stream,
    toDateTime(f.observed_ns, 'UTC') AS second,
    count() AS packets,
    sum(f.size_bytes) AS bytes,
    sum(f.newly_lost) AS lost,
    countIf(f.duplicate) AS duplicates,
    countIf(f.reordered) AS reordered,
    sum(ifNull(abs(f.transit_delta_us), 0)) AS transit_abs_us_sum,
    count(f.transit_delta_us) AS transit_count,
    max(ifNull(abs(f.transit_delta_us), 0)) AS transit_abs_us_max,
    min(f.ext_seq) AS min_ext_seq,
    max(f.ext_seq) AS max_ext_seq
FROM sidetone.packets AS f
GROUP BY region, tap, session_id, stream, second;

CREATE MATERIALIZED VIEW IF NOT EXISTS sidetone.region_1s_mv TO sidetone.region_1s AS
SELECT
    f.region AS region,
    f.tap AS tap,
    toDateTime(f.observed_ns, 'UTC') AS second,
    count() AS packets,
    sum(f.size_bytes) AS bytes,
    sum(f.newly_lost) AS lost,
    countIf(f.duplicate) AS duplicates,
    countIf(f.reordered) AS reordered,
    sum(ifNull(abs(f.transit_delta_us), 0)) AS transit_abs_us_sum,
    count(f.transit_delta_us) AS transit_count,
    quantilesDDStateIf(0.01, 0.5, 0.9, 0.95, 0.99)(
        assumeNotNull(abs(f.transit_delta_us)), isNotNull(f.transit_delta_us)
    ) AS transit_abs_us_dd
FROM sidetone.packets AS f
GROUP BY region, tap, second;
