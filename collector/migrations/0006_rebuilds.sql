-- What `sidetone rebuild` has begun and how far it got, so that one that was cut off is finished, not lost.
-- `upto` has the offset by `topic:partition` below which the log is loaded once more.

CREATE TABLE IF NOT EXISTS sidetone.rebuilds
(
    id String CODEC(ZSTD(1)),
    step LowCardinality(String) CODEC(ZSTD(1)),
    tables Array(String) CODEC(ZSTD(1)),
    upto Map(String, UInt64) CODEC(ZSTD(1)),
    at_ns DateTime64(9, 'UTC') DEFAULT now64(9) CODEC(Delta, ZSTD(1))
)
ENGINE = MergeTree
ORDER BY (at_ns, id)
SETTINGS non_replicated_deduplication_window = ${dedup_window};
