-- title: Playout ticks of the transceivers: kept time, or not
-- One row per region: whether voice left and arrived on time at the transceiver itself.
-- param from DateTime64(9, 'UTC') = 1970-01-02T00:00:00 : ticks observed from here on
-- param to DateTime64(9, 'UTC') = 2200-01-01T00:00:00 : ticks observed before this
-- param region Array(String) = : only these regions; empty for all
-- param session String = : only this call; empty for all
-- column region text : region of the edge
-- column ticks count : ticks of 20 ms, both directions
-- column underruns count : ticks for which voice was due and none was ready
-- column late_ticks count : ticks that ran one tick (20 ms) or more after they were due
-- column concealed count : incoming ticks that were concealed
-- column discarded_late count : incoming packets that came too late to be played
-- column lateness_ms_p50 ms : how long after it was due a tick ran, median; NULL without ticks
-- column lateness_ms_p99 ms : the same, 99th percentile
-- column lateness_ms_max ms : the same, worst
SELECT
    toString(f.region) AS region,
    -- A packet that came too late is a row, too, but no tick.
    countIf(f.kind != 'discarded_late') AS ticks,
    countIf(f.underrun) AS underruns,
    countIf(f.lateness_us >= 20000) AS late_ticks,
    countIf(f.kind = 'concealed') AS concealed,
    countIf(f.kind = 'discarded_late') AS discarded_late,
    quantileExactOrNullIf(0.5)(f.lateness_us, f.kind != 'discarded_late') / 1000 AS lateness_ms_p50,
    quantileExactOrNullIf(0.99)(f.lateness_us, f.kind != 'discarded_late') / 1000 AS lateness_ms_p99,
    maxOrNullIf(f.lateness_us, f.kind != 'discarded_late') / 1000 AS lateness_ms_max
FROM sidetone.frames AS f
WHERE f.observed_ns >= {from:DateTime64(9, 'UTC')} AND f.observed_ns < {to:DateTime64(9, 'UTC')}
    AND (empty({region:Array(String)}) OR has({region:Array(String)}, f.region))
    AND ({session:String} = '' OR f.session_id = toUUIDOrZero({session:String}))
GROUP BY f.region
ORDER BY region
