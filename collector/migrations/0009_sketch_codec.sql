-- A percentile sketch of a second is the same few hundred numbers for ten packets as for a thousand: where calls are few,
-- it is the dearest column after the packets' own times. A row per region, tap and second bears a higher level.

ALTER TABLE sidetone.region_1s
    MODIFY COLUMN transit_abs_us_dd AggregateFunction(quantilesDD(0.01, 0.5, 0.9, 0.95, 0.99), UInt32) CODEC(ZSTD(9));
