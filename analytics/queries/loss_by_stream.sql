-- title: Packets, loss and duplicates of each stream at each tap
-- Exact integers from the second rollup, packet for packet, whether or not the edge thinned its facts.
-- param from DateTime64(9, 'UTC') = now-1h : start of the window, inclusive, to the second
-- param to DateTime64(9, 'UTC') = now : end of the window, exclusive
-- param region Array(String) = : only these regions; empty for all
-- param session String = : only this call; empty for all
-- column session_id uuid : the call
-- column region text : region of the edge
-- column tap text : where the packets were seen
-- column stream number : SSRC
-- column packets count : packets received, duplicates included
-- column kept count : facts behind them; fewer than packets where the edge thinned its facts
-- column lost count : packets missing between the first and the last one received (late finds taken back)
-- column duplicates count : packets that came again
-- column reordered count : packets that came out of order
-- column loss ratio : lost ÷ (packets − duplicates + lost)
SELECT
    toString(p.session_id) AS session_id,
    toString(any(p.region)) AS region,
    toString(p.tap) AS tap,
    p.stream AS stream,
    toInt64(sum(p.packets)) AS packets,
    toInt64(sum(p.kept)) AS kept,
    sum(p.lost) AS lost,
    toInt64(sum(p.duplicates)) AS duplicates,
    toInt64(sum(p.reordered)) AS reordered,
    if(sum(p.packets) - sum(p.duplicates) + sum(p.lost) > 0,
        sum(p.lost) / (sum(p.packets) - sum(p.duplicates) + sum(p.lost)), NULL) AS loss
FROM sidetone.packets_1s AS p
WHERE p.second >= {from:DateTime64(9, 'UTC')} AND p.second < {to:DateTime64(9, 'UTC')}
    AND (empty({region:Array(String)}) OR has({region:Array(String)}, p.region))
    AND ({session:String} = '' OR p.session_id = toUUIDOrZero({session:String}))
GROUP BY p.session_id, p.tap, p.stream
ORDER BY session_id, tap, stream
