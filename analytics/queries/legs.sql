-- title: Round trips of each leg
-- By region of the edge, leg and how it was measured, quickest leg first. STUN pairs are told apart at the edge; RTCP is
-- encrypted under SRTP beyond its first eight octets, so reports are read at the transceiver only and span both legs; the
-- edge's probes of a transceiver belong to no call.
-- param from DateTime64(9, 'UTC') = now-1h : samples observed at or after
-- param to DateTime64(9, 'UTC') = now : samples observed before
-- param region Array(String) = : only these regions; empty for all
-- param session String = : only this call; empty for all, probes included
-- column region text : region of the edge
-- column leg text : client_edge, edge_transceiver, client_transceiver or transceiver_model
-- column method text : stun, rtcp or probe
-- column remote_region text : region of the far end; NULL if not told
-- column samples count : round trips measured
-- column calls count : calls that they are of; 0 for probes
-- column rtt_min_ms ms : shortest
-- column rtt_p50_ms ms : median
-- column rtt_p95_ms ms : 95th percentile
-- column rtt_max_ms ms : longest
-- column newest_ns ns since epoch : the last sample
SELECT
    toString(l.region) AS region,
    toString(l.leg) AS leg,
    toString(l.method) AS method,
    toString(l.remote_region) AS remote_region,
    count() AS samples,
    uniqExactIf(l.session_id, l.session_id != toUUID('00000000-0000-0000-0000-000000000000')) AS calls,
    min(l.rtt_us) / 1000 AS rtt_min_ms,
    quantileExact(0.5)(l.rtt_us) / 1000 AS rtt_p50_ms,
    quantileExact(0.95)(l.rtt_us) / 1000 AS rtt_p95_ms,
    max(l.rtt_us) / 1000 AS rtt_max_ms,
    toUnixTimestamp64Nano(max(l.observed_ns)) AS newest_ns
FROM sidetone.legs AS l
WHERE l.observed_ns >= {from:DateTime64(9, 'UTC')} AND l.observed_ns < {to:DateTime64(9, 'UTC')}
    AND (empty({region:Array(String)}) OR has({region:Array(String)}, l.region))
    AND ({session:String} = '' OR l.session_id = toUUIDOrZero({session:String}))
GROUP BY l.region, l.leg, l.method, l.remote_region
ORDER BY region, rtt_p50_ms, leg, method, remote_region
