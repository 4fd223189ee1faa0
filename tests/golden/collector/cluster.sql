CREATE DATABASE IF NOT EXISTS sidetone ON CLUSTER 'facts';

CREATE TABLE IF NOT EXISTS sidetone.migrations ON CLUSTER 'facts'
(version UInt32, name String, checksum String, applied_ns DateTime64(9, 'UTC') DEFAULT now64(9))
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{database}/migrations', '{shard}-{replica}')
ORDER BY version;

CREATE DATABASE IF NOT EXISTS sidetone ON CLUSTER 'facts';

CREATE TABLE IF NOT EXISTS sidetone.packets_local ON CLUSTER 'facts'
(
    session_id UUID CODEC(ZSTD(1)),
    region LowCardinality(String) CODEC(ZSTD(1)),
    host_id LowCardinality(String) CODEC(ZSTD(1)),
    observed_ns DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    tap LowCardinality(String) CODEC(ZSTD(1)),
    stream UInt32 CODEC(Delta, ZSTD(1)),
    ext_seq Int64 CODEC(Delta, ZSTD(1)),
    rtp_ts UInt32 CODEC(Delta, ZSTD(1)),
    payload_type UInt8 CODEC(ZSTD(1)),
    marker Bool CODEC(ZSTD(1)),
    size_bytes UInt16 CODEC(T64, ZSTD(1)),
    audio_level_dbov Nullable(Int8) CODEC(T64, ZSTD(1)),
    voice_activity Nullable(Bool) CODEC(ZSTD(1)),
    dscp Nullable(UInt8) CODEC(ZSTD(1)),
    transit_delta_us Nullable(Int32) CODEC(T64, ZSTD(1)),
    newly_lost Int32 CODEC(T64, ZSTD(1)),
    reordered Bool CODEC(ZSTD(1)),
    duplicate Bool CODEC(ZSTD(1)),
    INDEX observed observed_ns TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/{database}/packets', '{replica}')
PARTITION BY toDate(observed_ns)
ORDER BY (region, session_id, tap, stream, observed_ns)
TTL toDateTime(observed_ns, 'UTC') + toIntervalDay(30)
SETTINGS ttl_only_drop_parts = 1, replicated_deduplication_window_seconds = 604800,
    replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS sidetone.packets ON CLUSTER 'facts' AS sidetone.packets_local
ENGINE = Distributed('facts', 'sidetone', 'packets_local', cityHash64(session_id));

CREATE TABLE IF NOT EXISTS sidetone.frames_local ON CLUSTER 'facts'
(
    session_id UUID CODEC(ZSTD(1)),
    region LowCardinality(String) CODEC(ZSTD(1)),
    host_id LowCardinality(String) CODEC(ZSTD(1)),
    observed_ns DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    mono_ns Int64 CODEC(Delta, ZSTD(1)),
    direction LowCardinality(String) CODEC(ZSTD(1)),
    stream UInt32 CODEC(Delta, ZSTD(1)),
    tick Int64 CODEC(Delta, ZSTD(1)),
    kind LowCardinality(String) CODEC(ZSTD(1)),
    rtp_ts Nullable(UInt32) CODEC(Delta, ZSTD(1)),
    lateness_us Int32 CODEC(T64, ZSTD(1)),
    underrun Bool CODEC(ZSTD(1)),
    buffer_ms Nullable(Float32) CODEC(ZSTD(1)),
    target_ms Nullable(Float32) CODEC(ZSTD(1)),
    level_dbov Nullable(Float32) CODEC(ZSTD(1)),
    vad Nullable(Bool) CODEC(ZSTD(1)),
    INDEX observed observed_ns TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/{database}/frames', '{replica}')
PARTITION BY toDate(observed_ns)
ORDER BY (region, session_id, direction, tick)
TTL toDateTime(observed_ns, 'UTC') + toIntervalDay(30)
SETTINGS ttl_only_drop_parts = 1, replicated_deduplication_window_seconds = 604800,
    replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS sidetone.frames ON CLUSTER 'facts' AS sidetone.frames_local
ENGINE = Distributed('facts', 'sidetone', 'frames_local', cityHash64(session_id));

CREATE TABLE IF NOT EXISTS sidetone.legs_local ON CLUSTER 'facts'
(
    session_id UUID CODEC(ZSTD(1)),
    region LowCardinality(String) CODEC(ZSTD(1)),
    host_id LowCardinality(String) CODEC(ZSTD(1)),
    observed_ns DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    leg LowCardinality(String) CODEC(ZSTD(1)),
    method LowCardinality(String) CODEC(ZSTD(1)),
    rtt_us UInt32 CODEC(T64, ZSTD(1)),
    remote_region LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    INDEX observed observed_ns TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/{database}/legs', '{replica}')
PARTITION BY toDate(observed_ns)
ORDER BY (region, session_id, leg, method, observed_ns)
TTL toDateTime(observed_ns, 'UTC') + toIntervalDay(30)
SETTINGS ttl_only_drop_parts = 1, replicated_deduplication_window_seconds = 604800,
    replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS sidetone.legs ON CLUSTER 'facts' AS sidetone.legs_local
ENGINE = Distributed('facts', 'sidetone', 'legs_local', cityHash64(session_id));

CREATE TABLE IF NOT EXISTS sidetone.turns_local ON CLUSTER 'facts'
(
    session_id UUID CODEC(ZSTD(1)),
    region LowCardinality(String) CODEC(ZSTD(1)),
    host_id LowCardinality(String) CODEC(ZSTD(1)),
    observed_ns DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    mono_ns Int64 CODEC(Delta, ZSTD(1)),
    turn_id UInt32 CODEC(Delta, ZSTD(1)),
    kind LowCardinality(String) CODEC(ZSTD(1)),
    actor LowCardinality(String) CODEC(ZSTD(1)),
    at_ns DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    audio_ms Nullable(Float64) CODEC(ZSTD(1)),
    reason LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    detector LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    probability Nullable(Float32) CODEC(ZSTD(1)),
    threshold Nullable(Float32) CODEC(ZSTD(1)),
    silence_ms Nullable(Float32) CODEC(ZSTD(1)),
    text Nullable(String) CODEC(ZSTD(1)),
    inputs Nullable(String) CODEC(ZSTD(1)),
    INDEX observed observed_ns TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/{database}/turns', '{replica}')
PARTITION BY toDate(observed_ns)
ORDER BY (region, session_id, turn_id, at_ns)
TTL toDateTime(observed_ns, 'UTC') + toIntervalDay(30)
SETTINGS ttl_only_drop_parts = 1, replicated_deduplication_window_seconds = 604800,
    replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS sidetone.turns ON CLUSTER 'facts' AS sidetone.turns_local
ENGINE = Distributed('facts', 'sidetone', 'turns_local', cityHash64(session_id));

CREATE TABLE IF NOT EXISTS sidetone.sessions_local ON CLUSTER 'facts'
(
    session_id UUID CODEC(ZSTD(1)),
    region LowCardinality(String) CODEC(ZSTD(1)),
    host_id LowCardinality(String) CODEC(ZSTD(1)),
    observed_ns DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    step LowCardinality(String) CODEC(ZSTD(1)),
    reason LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    attributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    INDEX observed observed_ns TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/{database}/sessions', '{replica}')
PARTITION BY toDate(observed_ns)
ORDER BY (region, session_id, observed_ns)
TTL toDateTime(observed_ns, 'UTC') + toIntervalDay(30)
SETTINGS ttl_only_drop_parts = 1, replicated_deduplication_window_seconds = 604800,
    replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS sidetone.sessions ON CLUSTER 'facts' AS sidetone.sessions_local
ENGINE = Distributed('facts', 'sidetone', 'sessions_local', cityHash64(session_id));

CREATE TABLE IF NOT EXISTS sidetone.clients_local ON CLUSTER 'facts'
(
    session_id UUID CODEC(ZSTD(1)),
    region LowCardinality(String) CODEC(ZSTD(1)),
    host_id LowCardinality(String) CODEC(ZSTD(1)),
    observed_ns DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    client_ns Nullable(DateTime64(9, 'UTC')) CODEC(Delta, ZSTD(1)),
    kind LowCardinality(String) CODEC(ZSTD(1)),
    stream Nullable(UInt32) CODEC(ZSTD(1)),
    values Map(LowCardinality(String), Float64) CODEC(ZSTD(1)),
    INDEX observed observed_ns TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/{database}/clients', '{replica}')
PARTITION BY toDate(observed_ns)
ORDER BY (region, session_id, kind, observed_ns)
TTL toDateTime(observed_ns, 'UTC') + toIntervalDay(30)
SETTINGS ttl_only_drop_parts = 1, replicated_deduplication_window_seconds = 604800,
    replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS sidetone.clients ON CLUSTER 'facts' AS sidetone.clients_local
ENGINE = Distributed('facts', 'sidetone', 'clients_local', cityHash64(session_id));

CREATE TABLE IF NOT EXISTS sidetone.audio_local ON CLUSTER 'facts'
(
    session_id UUID CODEC(ZSTD(1)),
    region LowCardinality(String) CODEC(ZSTD(1)),
    host_id LowCardinality(String) CODEC(ZSTD(1)),
    observed_ns DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    tap LowCardinality(String) CODEC(ZSTD(1)),
    stream UInt32 CODEC(Delta, ZSTD(1)),
    ext_seq Int64 CODEC(Delta, ZSTD(1)),
    rtp_ts UInt32 CODEC(Delta, ZSTD(1)),
    payload String CODEC(ZSTD(1)),
    INDEX observed observed_ns TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/{database}/audio', '{replica}')
PARTITION BY toDate(observed_ns)
ORDER BY (region, session_id, tap, stream, observed_ns)

SETTINGS ttl_only_drop_parts = 1, replicated_deduplication_window_seconds = 604800,
    replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS sidetone.audio ON CLUSTER 'facts' AS sidetone.audio_local
ENGINE = Distributed('facts', 'sidetone', 'audio_local', cityHash64(session_id));

CREATE TABLE IF NOT EXISTS sidetone.inputs_local ON CLUSTER 'facts'
(
    session_id UUID CODEC(ZSTD(1)),
    region LowCardinality(String) CODEC(ZSTD(1)),
    host_id LowCardinality(String) CODEC(ZSTD(1)),
    observed_ns DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    mono_ns Int64 CODEC(Delta, ZSTD(1)),
    sequence UInt64 CODEC(Delta, ZSTD(1)),
    kind LowCardinality(String) CODEC(ZSTD(1)),
    payload String CODEC(ZSTD(1)),
    INDEX observed observed_ns TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/{database}/inputs', '{replica}')
PARTITION BY toDate(observed_ns)
ORDER BY (region, session_id, sequence)
TTL toDateTime(observed_ns, 'UTC') + toIntervalDay(30)
SETTINGS ttl_only_drop_parts = 1, replicated_deduplication_window_seconds = 604800,
    replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS sidetone.inputs ON CLUSTER 'facts' AS sidetone.inputs_local
ENGINE = Distributed('facts', 'sidetone', 'inputs_local', cityHash64(session_id));

CREATE TABLE IF NOT EXISTS sidetone.emitters_local ON CLUSTER 'facts'
(
    session_id UUID CODEC(ZSTD(1)),
    region LowCardinality(String) CODEC(ZSTD(1)),
    host_id LowCardinality(String) CODEC(ZSTD(1)),
    observed_ns DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    producer LowCardinality(String) CODEC(ZSTD(1)),
    role LowCardinality(String) CODEC(ZSTD(1)),
    fact_type LowCardinality(String) CODEC(ZSTD(1)),
    captured UInt64 CODEC(Delta, ZSTD(1)),
    emitted UInt64 CODEC(Delta, ZSTD(1)),
    spooled UInt64 CODEC(Delta, ZSTD(1)),
    shed Map(LowCardinality(String), UInt64) CODEC(ZSTD(1)),
    final Bool CODEC(ZSTD(1)),
    INDEX observed observed_ns TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/{database}/emitters', '{replica}')
PARTITION BY toDate(observed_ns)
ORDER BY (producer, fact_type, observed_ns)
TTL toDateTime(observed_ns, 'UTC') + toIntervalDay(30)
SETTINGS ttl_only_drop_parts = 1, replicated_deduplication_window_seconds = 604800,
    replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS sidetone.emitters ON CLUSTER 'facts' AS sidetone.emitters_local
ENGINE = Distributed('facts', 'sidetone', 'emitters_local', cityHash64(session_id));

CREATE TABLE IF NOT EXISTS sidetone.packets_1s_local ON CLUSTER 'facts'
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
ENGINE = ReplicatedAggregatingMergeTree('/clickhouse/tables/{shard}/{database}/packets_1s', '{replica}')
PARTITION BY toDate(second)
ORDER BY (region, session_id, tap, stream, second)

SETTINGS ttl_only_drop_parts = 1, replicated_deduplication_window_seconds = 604800,
    replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS sidetone.packets_1s ON CLUSTER 'facts' AS sidetone.packets_1s_local
ENGINE = Distributed('facts', 'sidetone', 'packets_1s_local', cityHash64(session_id));

CREATE TABLE IF NOT EXISTS sidetone.packets_1m_local ON CLUSTER 'facts'
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
ENGINE = ReplicatedAggregatingMergeTree('/clickhouse/tables/{shard}/{database}/packets_1m', '{replica}')
PARTITION BY toYYYYMM(minute)
ORDER BY (region, session_id, tap, stream, minute)

SETTINGS ttl_only_drop_parts = 1, replicated_deduplication_window_seconds = 604800,
    replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS sidetone.packets_1m ON CLUSTER 'facts' AS sidetone.packets_1m_local
ENGINE = Distributed('facts', 'sidetone', 'packets_1m_local', cityHash64(session_id));

CREATE TABLE IF NOT EXISTS sidetone.region_1s_local ON CLUSTER 'facts'
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
ENGINE = ReplicatedAggregatingMergeTree('/clickhouse/tables/{shard}/{database}/region_1s', '{replica}')
PARTITION BY toDate(second)
ORDER BY (region, tap, second)

SETTINGS ttl_only_drop_parts = 1, replicated_deduplication_window_seconds = 604800,
    replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS sidetone.region_1s ON CLUSTER 'facts' AS sidetone.region_1s_local
ENGINE = Distributed('facts', 'sidetone', 'region_1s_local');

CREATE TABLE IF NOT EXISTS sidetone.region_1m_local ON CLUSTER 'facts'
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
ENGINE = ReplicatedAggregatingMergeTree('/clickhouse/tables/{shard}/{database}/region_1m', '{replica}')
PARTITION BY toYYYYMM(minute)
ORDER BY (region, tap, minute)

SETTINGS ttl_only_drop_parts = 1, replicated_deduplication_window_seconds = 604800,
    replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS sidetone.region_1m ON CLUSTER 'facts' AS sidetone.region_1m_local
ENGINE = Distributed('facts', 'sidetone', 'region_1m_local');

CREATE MATERIALIZED VIEW IF NOT EXISTS sidetone.packets_1m_mv ON CLUSTER 'facts' TO sidetone.packets_1m_local AS
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
FROM sidetone.packets_1s_local AS f
GROUP BY region, tap, session_id, stream, minute;

CREATE MATERIALIZED VIEW IF NOT EXISTS sidetone.region_1m_mv ON CLUSTER 'facts' TO sidetone.region_1m_local AS
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
FROM sidetone.region_1s_local AS f
GROUP BY region, tap, minute;

CREATE MATERIALIZED VIEW IF NOT EXISTS sidetone.packets_1s_mv ON CLUSTER 'facts' TO sidetone.packets_1s_local AS
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
FROM sidetone.packets_local AS f
GROUP BY region, tap, session_id, stream, second;

CREATE MATERIALIZED VIEW IF NOT EXISTS sidetone.region_1s_mv ON CLUSTER 'facts' TO sidetone.region_1s_local AS
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
FROM sidetone.packets_local AS f
GROUP BY region, tap, second;

CREATE TABLE IF NOT EXISTS sidetone.dead_letters_local ON CLUSTER 'facts'
(
    topic LowCardinality(String) CODEC(ZSTD(1)),
    partition UInt32 CODEC(ZSTD(1)),
    offset UInt64 CODEC(Delta, ZSTD(1)),
    epoch String CODEC(ZSTD(1)),
    reason LowCardinality(String) CODEC(ZSTD(1)),
    detail String CODEC(ZSTD(1)),
    headers Map(String, String) CODEC(ZSTD(1)),
    key Nullable(String) CODEC(ZSTD(1)),
    value String CODEC(ZSTD(1)),
    value_bytes UInt64 CODEC(ZSTD(1)),
    appended_ns DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    seen_ns DateTime64(9, 'UTC') DEFAULT now64(9) CODEC(Delta, ZSTD(1))
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/{database}/dead_letters', '{replica}')
PARTITION BY toYYYYMM(appended_ns)
ORDER BY (topic, partition, offset)
SETTINGS replicated_deduplication_window_seconds = 604800,
    replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS sidetone.dead_letters ON CLUSTER 'facts' AS sidetone.dead_letters_local
ENGINE = Distributed('facts', 'sidetone', 'dead_letters_local');

CREATE TABLE IF NOT EXISTS sidetone.chunks ON CLUSTER 'facts'
(
    topic LowCardinality(String) CODEC(ZSTD(1)),
    partition UInt32 CODEC(Delta, ZSTD(1)),
    offset UInt64 CODEC(Delta, ZSTD(1)),
    ce_source LowCardinality(String) CODEC(ZSTD(1)),
    ce_type LowCardinality(String) CODEC(ZSTD(1)),
    ce_sequence UInt64 CODEC(Delta, ZSTD(1)),
    rows UInt64 CODEC(T64, ZSTD(1)),
    epoch LowCardinality(String) CODEC(ZSTD(1)),
    appended_ns DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1))
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{database}/chunks', '{shard}-{replica}')
PARTITION BY toYYYYMM(appended_ns)
ORDER BY (topic, partition, ce_source, ce_sequence)

SETTINGS ttl_only_drop_parts = 1, replicated_deduplication_window_seconds = 604800,
    replicated_deduplication_window = 10000;

DROP TABLE IF EXISTS sidetone.dead_letters ON CLUSTER 'facts' SYNC;

DROP TABLE IF EXISTS sidetone.dead_letters_local ON CLUSTER 'facts' SYNC;

CREATE TABLE IF NOT EXISTS sidetone.rebuilds ON CLUSTER 'facts'
(
    id String CODEC(ZSTD(1)),
    step LowCardinality(String) CODEC(ZSTD(1)),
    tables Array(String) CODEC(ZSTD(1)),
    upto Map(String, UInt64) CODEC(ZSTD(1)),
    at_ns DateTime64(9, 'UTC') DEFAULT now64(9) CODEC(Delta, ZSTD(1))
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{database}/rebuilds', '{shard}-{replica}')
ORDER BY (at_ns, id)
SETTINGS replicated_deduplication_window_seconds = 604800,
    replicated_deduplication_window = 10000;

ALTER TABLE sidetone.packets_local ON CLUSTER 'facts'
    MODIFY COLUMN observed_ns DateTime64(9, 'UTC') CODEC(GCD, Delta, T64, ZSTD(1)),
    MODIFY COLUMN ext_seq Int64 CODEC(DoubleDelta, ZSTD(1)),
    MODIFY COLUMN audio_level_dbov Nullable(Int8) CODEC(Delta, ZSTD(1));

ALTER TABLE sidetone.packets_local ON CLUSTER 'facts'
    ADD COLUMN IF NOT EXISTS represents UInt32 DEFAULT 1 CODEC(T64, ZSTD(1));

ALTER TABLE sidetone.packets ON CLUSTER 'facts'
    ADD COLUMN IF NOT EXISTS represents UInt32 DEFAULT 1 CODEC(T64, ZSTD(1));

ALTER TABLE sidetone.packets_1s_local ON CLUSTER 'facts'
    ADD COLUMN IF NOT EXISTS kept SimpleAggregateFunction(sum, UInt64) DEFAULT packets CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS levels SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS silent SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS level_dbov_max SimpleAggregateFunction(max, Nullable(Int8)) CODEC(ZSTD(1));

ALTER TABLE sidetone.packets_1s ON CLUSTER 'facts'
    ADD COLUMN IF NOT EXISTS kept SimpleAggregateFunction(sum, UInt64) DEFAULT packets CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS levels SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS silent SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS level_dbov_max SimpleAggregateFunction(max, Nullable(Int8)) CODEC(ZSTD(1));

ALTER TABLE sidetone.packets_1m_local ON CLUSTER 'facts'
    ADD COLUMN IF NOT EXISTS kept SimpleAggregateFunction(sum, UInt64) DEFAULT packets CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS levels SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS silent SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS level_dbov_max SimpleAggregateFunction(max, Nullable(Int8)) CODEC(ZSTD(1));

ALTER TABLE sidetone.packets_1m ON CLUSTER 'facts'
    ADD COLUMN IF NOT EXISTS kept SimpleAggregateFunction(sum, UInt64) DEFAULT packets CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS levels SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS silent SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS level_dbov_max SimpleAggregateFunction(max, Nullable(Int8)) CODEC(ZSTD(1));

ALTER TABLE sidetone.region_1s_local ON CLUSTER 'facts'
    ADD COLUMN IF NOT EXISTS kept SimpleAggregateFunction(sum, UInt64) DEFAULT packets CODEC(T64, ZSTD(1));

ALTER TABLE sidetone.region_1s ON CLUSTER 'facts'
    ADD COLUMN IF NOT EXISTS kept SimpleAggregateFunction(sum, UInt64) DEFAULT packets CODEC(T64, ZSTD(1));

ALTER TABLE sidetone.region_1m_local ON CLUSTER 'facts'
    ADD COLUMN IF NOT EXISTS kept SimpleAggregateFunction(sum, UInt64) DEFAULT packets CODEC(T64, ZSTD(1));

ALTER TABLE sidetone.region_1m ON CLUSTER 'facts'
    ADD COLUMN IF NOT EXISTS kept SimpleAggregateFunction(sum, UInt64) DEFAULT packets CODEC(T64, ZSTD(1));

ALTER TABLE sidetone.packets_1m_mv ON CLUSTER 'facts' MODIFY QUERY
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
FROM sidetone.packets_1s_local AS f
GROUP BY region, tap, session_id, stream, minute;

RENAME TABLE sidetone.packets_1m_mv TO sidetone.packets_1m_mv_renamed, sidetone.packets_1m_mv_renamed TO sidetone.packets_1m_mv ON CLUSTER 'facts';

ALTER TABLE sidetone.region_1m_mv ON CLUSTER 'facts' MODIFY QUERY
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
FROM sidetone.region_1s_local AS f
GROUP BY region, tap, minute;

RENAME TABLE sidetone.region_1m_mv TO sidetone.region_1m_mv_renamed, sidetone.region_1m_mv_renamed TO sidetone.region_1m_mv ON CLUSTER 'facts';

ALTER TABLE sidetone.packets_1s_mv ON CLUSTER 'facts' MODIFY QUERY
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
FROM sidetone.packets_local AS f
GROUP BY region, tap, session_id, stream, second;

RENAME TABLE sidetone.packets_1s_mv TO sidetone.packets_1s_mv_renamed, sidetone.packets_1s_mv_renamed TO sidetone.packets_1s_mv ON CLUSTER 'facts';

ALTER TABLE sidetone.region_1s_mv ON CLUSTER 'facts' MODIFY QUERY
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
FROM sidetone.packets_local AS f
GROUP BY region, tap, second;

RENAME TABLE sidetone.region_1s_mv TO sidetone.region_1s_mv_renamed, sidetone.region_1s_mv_renamed TO sidetone.region_1s_mv ON CLUSTER 'facts';

ALTER TABLE sidetone.region_1s_local ON CLUSTER 'facts'
    MODIFY COLUMN transit_abs_us_dd AggregateFunction(quantilesDD(0.01, 0.5, 0.9, 0.95, 0.99), UInt32) CODEC(ZSTD(9));
