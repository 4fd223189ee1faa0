-- title: Where the time of each answer went, in one call
-- Parts of each turn's response, in the order of their happening. The five parts between the acoustic end and the first
-- packet, and `unmeasured_ms`, sum to `response_ms`; with the network both ways and the playout, to `listener_ms`.
-- param session UUID : the call
-- param from DateTime64(9, 'UTC') = 1970-01-02T00:00:00 : turns that began at or after
-- param to DateTime64(9, 'UTC') = 2200-01-01T00:00:00 : turns that began before
-- param region Array(String) = : only if the call entered by one of these; empty for any
-- column turn_id number : the user's turn
-- column user_speech_stopped_ns ns since epoch : acoustic end of the user's speech, as it arrives undelayed
-- column uplink_network_ms ms : client to transceiver: measured if the client compared its clock with ours, and below 0 where the relay took an earlier end of speech than the client, else half of the least round trip; NULL if unmeasured
-- column uplink_jitter_buffer_ms ms : queueing and receive buffer before the detector hears it; NULL if unmeasured
-- column vad_hangover_ms ms : until the detector called the end of speech; NULL if unmeasured
-- column endpoint_wait_ms ms : until the turn was decided to be over; NULL if unmeasured
-- column request_ms ms : until the model was asked; 0 if it was in advance; NULL if unmeasured
-- column model_first_audio_ms ms : until its first audio; NULL if unmeasured
-- column pacing_ms ms : until the first voiced packet left; NULL if unmeasured
-- column downlink_network_ms ms : transceiver to client, codec's look-ahead included: measured likewise, else half of the round trip; NULL if unmeasured
-- column playout_ms ms : the client's receive buffer; NULL if the client did not report it
-- column response_ms ms : the relay's whole: acoustic end to first voiced packet; NULL if either is missing
-- column unmeasured_ms ms : response_ms less its measured parts; NULL if response_ms is
-- column listener_ms ms : the listener's whole; NULL if any part outside the relay is
-- column clock_error_ms ms : the ways up and down were measured, and may be wrong by this in opposite directions, as far as the clocks go; NULL if they are estimates
WITH
    toString({session:UUID}) AS only_session,
-- include: parts/turn_facts.sql
,
-- include: parts/turns.sql
,
-- include: parts/transport.sql
,
-- include: parts/listener.sql
,
    marks AS
    (
        SELECT
            session_id,
            turn_id,
            began_ns,
            response_ms,
            toUnixTimestamp64Nano(user_stopped_ns) AS stopped,
            toUnixTimestamp64Nano(agent_started_ns) AS started,
            toUnixTimestamp64Nano(decided_ns) AS decided,
            toUnixTimestamp64Nano(requested_ns) AS requested,
            toUnixTimestamp64Nano(first_audio_ns) AS voiced,
            least(toUnixTimestamp64Nano(stop_seen_ns), toUnixTimestamp64Nano(coalesce(decided_ns, stop_seen_ns))) AS heard,
            -- The silence that the decision waited for is media time; what is more than that was spent on the way in.
            if(isNull(decided_silence_ms), NULL, greatest(0, (decided - stopped) / 1e6 - decided_silence_ms)) AS buffered_ms
        FROM window_turns
    )
SELECT
    t.turn_id AS turn_id,
    t.stopped AS user_speech_stopped_ns,
    coalesce(h.uplink_ms, w.uplink_ms) AS uplink_network_ms,
    if(isNull(t.response_ms) OR isNull(t.buffered_ms), NULL, least(t.buffered_ms, (t.heard - t.stopped) / 1e6)) AS uplink_jitter_buffer_ms,
    if(isNull(t.response_ms), NULL, (t.heard - t.stopped) / 1e6 - ifNull(uplink_jitter_buffer_ms, 0)) AS vad_hangover_ms,
    if(isNull(t.response_ms), NULL, (t.decided - t.heard) / 1e6) AS endpoint_wait_ms,
    -- An answer that was asked for in advance is waited for only from the decision on.
    if(t.requested < t.decided, 0, (t.requested - t.decided) / 1e6) AS request_ms,
    if(t.voiced < t.decided, 0, (t.voiced - if(t.requested < t.decided, t.decided, t.requested)) / 1e6) AS model_first_audio_ms,
    (t.started - if(t.voiced < t.decided, t.decided, t.voiced)) / 1e6 AS pacing_ms,
    if(isNull(h.uplink_ms), w.downlink_ms, h.downlink_ms - ifNull(h.wait_ms, 0)) AS downlink_network_ms,
    if(isNull(h.uplink_ms), w.playout_ms, h.wait_ms) AS playout_ms,
    t.response_ms AS response_ms,
    t.response_ms - ifNull(uplink_jitter_buffer_ms, 0) - ifNull(vad_hangover_ms, 0) - ifNull(endpoint_wait_ms, 0)
        - ifNull(request_ms, 0) - ifNull(model_first_audio_ms, 0) - ifNull(pacing_ms, 0) AS unmeasured_ms,
    coalesce(h.heard_ms, t.response_ms + w.uplink_ms + w.downlink_ms + w.playout_ms) AS listener_ms,
    if(isNull(h.uplink_ms), NULL, h.clock_error_ms) AS clock_error_ms
FROM marks AS t
LEFT JOIN turn_transport AS w ON t.session_id = w.session_id AND t.turn_id = w.turn_id
LEFT JOIN turn_heard AS h ON t.session_id = h.session_id AND t.turn_id = h.turn_id
ORDER BY t.began_ns, turn_id
-- The last one costs more than all the rest of working out the query, and gains nothing here.
SETTINGS join_use_nulls = 1, enable_materialized_cte = 1, optimize_and_compare_chain = 0
