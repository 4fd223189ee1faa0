-- Messages that could not be opened: the bytes as they were, where they came from and why they were refused.
-- `seen_ns` is set by the store, so that a dead letter sent twice is the same row to the last byte.

CREATE TABLE IF NOT EXISTS sidetone.dead_letters
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
ENGINE = MergeTree
PARTITION BY toYYYYMM(appended_ns)
ORDER BY (topic, partition, offset)
SETTINGS non_replicated_deduplication_window = ${dedup_window};
