-- title: How the agent's voice was sent in one call, and why
-- One row per change of bit rate, redundancy or packet length, with the receiver report that it rests on.
-- param session UUID : the call
-- column observed_ns ns since epoch : when the report came
-- column lost ratio : of our packets, since the client's last report
-- column smoothed_loss ratio : what the decision went by
-- column rtt_ms ms : round trip; NULL if the report told none
-- column best_rtt_ms ms : best round trip of the call so far; NULL if there is none
-- column queued flag : a queue stood on the way
-- column bitrate_before_bps bit/s : bit rate until then
-- column bitrate_bps bit/s : bit rate from then on
-- column fec_before flag : with redundancy until then
-- column fec flag : with redundancy from then on
-- column expected_loss_before_percent % : loss that the encoder was told to expect until then
-- column expected_loss_percent % : loss that the encoder is told to expect from then on
-- column ptime_before_ms ms : length of a packet until then
-- column ptime_ms ms : length of a packet from then on
SELECT
    toUnixTimestamp64Nano(i.observed_ns) AS observed_ns,
    JSONExtractFloat(i.payload, 'inputs', 'fraction_lost') AS lost,
    JSONExtractFloat(i.payload, 'inputs', 'smoothed_loss') AS smoothed_loss,
    JSONExtract(i.payload, 'inputs', 'rtt_ms', 'Nullable(Float64)') AS rtt_ms,
    JSONExtract(i.payload, 'inputs', 'best_rtt_ms', 'Nullable(Float64)') AS best_rtt_ms,
    JSONExtractBool(i.payload, 'inputs', 'queued') AS queued,
    JSONExtractUInt(i.payload, 'before', 'bitrate_bps') AS bitrate_before_bps,
    JSONExtractUInt(i.payload, 'after', 'bitrate_bps') AS bitrate_bps,
    JSONExtractBool(i.payload, 'before', 'fec') AS fec_before,
    JSONExtractBool(i.payload, 'after', 'fec') AS fec,
    JSONExtractUInt(i.payload, 'before', 'expected_loss_percent') AS expected_loss_before_percent,
    JSONExtractUInt(i.payload, 'after', 'expected_loss_percent') AS expected_loss_percent,
    JSONExtractUInt(i.payload, 'before', 'ptime_ms') AS ptime_before_ms,
    JSONExtractUInt(i.payload, 'after', 'ptime_ms') AS ptime_ms
FROM sidetone.inputs AS i
WHERE i.session_id = {session:UUID} AND i.kind = 'sender'
ORDER BY i.sequence
LIMIT 100000
