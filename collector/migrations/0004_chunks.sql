-- The ledger: every chunk whose facts are stored. A producer that was made anew after an error may send a chunk twice;
-- the second one, at a later offset of the same partition, is known by source, type and sequence, and dropped.
-- A range's rows are inserted under the range's own token, after its facts: what stands here is stored.

CREATE TABLE IF NOT EXISTS sidetone.chunks
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
ENGINE = MergeTree
PARTITION BY toYYYYMM(appended_ns)
ORDER BY (topic, partition, ce_source, ce_sequence)
${ttl_chunks}
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = ${dedup_window};
