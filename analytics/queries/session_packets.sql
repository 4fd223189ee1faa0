-- title: The packets of one call
-- One row per packet fact while there are few enough (where the edge thinned its facts, one stands for several packets);
-- above `points`, one row per tap, stream and slice of time (`slice_ms` says how long). Frames discarded as late by the
-- receive buffer are rows of the tap `playout`.
-- param session UUID : the call
-- param points UInt32 = 20000 : most rows per packet before packets are put together
-- param slices UInt32 = 1500 : slices of time to put them into; 0 is 1
-- column at_ns ns since epoch : when it was seen, or the slice's start
-- column tap text : edge_up, edge_down, transceiver_in, transceiver_out, or playout
-- column stream number : SSRC
-- column ext_seq number : extended sequence number; NULL for slices and for playout
-- column packets count : packets received, those included that a row represents
-- column lost count : packets shown to be missing; negative where missing ones turned up
-- column late count : frames that came too late to be played
-- column reordered count : packets out of order
-- column duplicates count : packets that came again
-- column transit_abs_ms ms : |D|, the change in transit time (RFC 3550), largest of the slice; NULL where unmeasured
-- column slice_ms ms : length of the slice; 0 where each row is one packet
WITH
    (
        SELECT (count(), toUnixTimestamp64Nano(min(observed_ns)), toUnixTimestamp64Nano(max(observed_ns)))
        FROM sidetone.packets WHERE session_id = {session:UUID}
    ) AS extent,
    if(extent.1 <= {points:UInt32}, 0, greatest(20, ceil((extent.3 - extent.2) / 1e6 / greatest({slices:UInt32}, 1) / 20) * 20)) AS length_ms,
    toInt64(length_ms * 1000000) AS slice_ns,
    seen AS
    (
        SELECT
            toUnixTimestamp64Nano(observed_ns) AS seen_ns, toString(tap) AS tap, stream, toNullable(ext_seq) AS ext_seq,
            toInt64(represents) AS packets, newly_lost AS lost, 0 AS late, reordered, duplicate, abs(transit_delta_us) AS transit_us
        FROM sidetone.packets
        WHERE session_id = {session:UUID}
        UNION ALL
        SELECT
            toUnixTimestamp64Nano(observed_ns), 'playout', stream, NULL, 0, 0, 1, false, false, NULL
        FROM sidetone.frames
        WHERE session_id = {session:UUID} AND direction = 'in' AND kind = 'discarded_late'
    )
SELECT
    if(slice_ns = 0, seen_ns, intDiv(seen_ns, greatest(slice_ns, 1)) * slice_ns) AS at_ns,
    s.tap AS tap,
    s.stream AS stream,
    if(slice_ns = 0, s.ext_seq, NULL) AS ext_seq,
    toInt64(sum(s.packets)) AS packets,
    toInt64(sum(s.lost)) AS lost,
    toInt64(sum(s.late)) AS late,
    countIf(s.reordered) AS reordered,
    countIf(s.duplicate) AS duplicates,
    max(s.transit_us) / 1000 AS transit_abs_ms,
    toFloat64(length_ms) AS slice_ms
FROM seen AS s
GROUP BY at_ns, tap, stream, ext_seq
ORDER BY at_ns, tap, stream, ext_seq
