-- Raw facts: one table per fact type, the same columns as the fact's Arrow schema.
--
-- Order keys put one session's rows side by side: a time-first key costs 3.5 times the bytes per packet. A minmax index
-- on time serves questions over a window. Parts hold one UTC day, because an insert is one block of one day.
-- The deduplication window is what makes a repeated insert harmless; it must be equal here and on every rollup.

CREATE DATABASE IF NOT EXISTS sidetone;

CREATE TABLE IF NOT EXISTS sidetone.packets
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
ENGINE = MergeTree
PARTITION BY toDate(observed_ns)
ORDER BY (region, session_id, tap, stream, observed_ns)
${ttl_facts}
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = ${dedup_window};

CREATE TABLE IF NOT EXISTS sidetone.frames
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
ENGINE = MergeTree
PARTITION BY toDate(observed_ns)
ORDER BY (region, session_id, direction, tick)
${ttl_facts}
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = ${dedup_window};

CREATE TABLE IF NOT EXISTS sidetone.legs
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
ENGINE = MergeTree
PARTITION BY toDate(observed_ns)
ORDER BY (region, session_id, leg, method, observed_ns)
${ttl_facts}
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = ${dedup_window};

CREATE TABLE IF NOT EXISTS sidetone.turns
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
ENGINE = MergeTree
PARTITION BY toDate(observed_ns)
ORDER BY (region, session_id, turn_id, at_ns)
${ttl_facts}
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = ${dedup_window};

CREATE TABLE IF NOT EXISTS sidetone.sessions
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
ENGINE = MergeTree
PARTITION BY toDate(observed_ns)
ORDER BY (region, session_id, observed_ns)
${ttl_facts}
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = ${dedup_window};

CREATE TABLE IF NOT EXISTS sidetone.clients
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
ENGINE = MergeTree
PARTITION BY toDate(observed_ns)
ORDER BY (region, session_id, kind, observed_ns)
${ttl_facts}
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = ${dedup_window};

-- Consented sessions only; kept by its own setting.
CREATE TABLE IF NOT EXISTS sidetone.audio
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
ENGINE = MergeTree
PARTITION BY toDate(observed_ns)
ORDER BY (region, session_id, tap, stream, observed_ns)
${ttl_audio}
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = ${dedup_window};

CREATE TABLE IF NOT EXISTS sidetone.inputs
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
ENGINE = MergeTree
PARTITION BY toDate(observed_ns)
ORDER BY (region, session_id, sequence)
${ttl_facts}
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = ${dedup_window};

CREATE TABLE IF NOT EXISTS sidetone.emitters
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
ENGINE = MergeTree
PARTITION BY toDate(observed_ns)
ORDER BY (producer, fact_type, observed_ns)
${ttl_facts}
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = ${dedup_window};
