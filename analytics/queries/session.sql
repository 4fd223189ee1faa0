-- title: One call: what is known of it
-- One row, or none if the store has heard nothing of the call.
-- param session UUID : the call
-- column session_id uuid : the call
-- column region text : region of the edge
-- column began_ns ns since epoch : offered, or the first fact
-- column ended_ns ns since epoch : closed; NULL while it lasts or if the end was not recorded
-- column last_ns ns since epoch : last step, turn fact or packet seen
-- column closed_by text : who hung up; NULL if unknown
-- column close_reason text : why it ended; NULL if unknown
-- column ice_ms ms : offered to ICE connected; NULL if it was not
-- column dtls_ms ms : offered to DTLS connected; NULL if it was not
-- column first_packet_ms ms : offered to the first packet; NULL if none came
-- column first_frame_ms ms : offered to the first frame of voice; NULL if none came
-- column turns count : user turns; backchannels are none
-- column turn_facts count : facts of the conversation
-- column packets count : packets at all taps
-- column packets_kept count : facts behind them; fewer where an edge thinned its facts
-- column attributes names and values : from the offer: client, model, codec, versions
WITH
    steps AS
    (
        SELECT
            count() AS steps,
            toString(any(s.region)) AS region,
            min(s.observed_ns) AS began,
            max(s.observed_ns) AS last,
            minOrNullIf(s.observed_ns, s.step = 'offered') AS offered,
            minOrNullIf(s.observed_ns, s.step = 'ice_connected') AS ice,
            minOrNullIf(s.observed_ns, s.step = 'dtls_connected') AS dtls,
            minOrNullIf(s.observed_ns, s.step = 'first_packet') AS packet,
            minOrNullIf(s.observed_ns, s.step = 'first_frame') AS frame,
            minOrNullIf(s.observed_ns, s.step = 'closed') AS closed,
            nullIf(anyIf(s.attributes['who'], s.step = 'closed'), '') AS closed_by,
            anyOrNullIf(toString(s.reason), s.step = 'closed') AS close_reason,
            argMaxIf(s.attributes, length(s.attributes), s.step = 'offered') AS attributes
        FROM sidetone.sessions AS s
        WHERE s.session_id = {session:UUID}
    ),
    conversation AS
    (
        SELECT
            sum(by_turn.facts) AS facts, any(by_turn.region) AS region, min(by_turn.began) AS began, max(by_turn.last) AS last,
            -- A backchannel carries the number of the turn to come; where it is all there is, there was no turn.
            countIf(
                turn_id > 0 AND (
                    arrayExists(x -> NOT has(signs, x), onsets)
                    OR arrayExists(x -> empty(signs) OR NOT has(signs, arrayMax(arrayFilter(y -> y <= x, onsets))), stops)
                )
            ) AS turns
        FROM
        (
            SELECT
                t.turn_id AS turn_id, count() AS facts, toString(any(t.region)) AS region,
                min(t.observed_ns) AS began, max(t.observed_ns) AS last,
                groupArrayIf(t.at_ns, t.kind = 'user_speech_started') AS onsets,
                groupArrayIf(t.at_ns, t.kind = 'user_speech_stopped') AS stops,
                groupArrayIf(t.at_ns, t.kind = 'backchannel') AS signs
            FROM sidetone.turns AS t
            WHERE t.session_id = {session:UUID}
            GROUP BY t.turn_id
        ) AS by_turn
    ),
    network AS
    (
        SELECT
            toString(any(p.region)) AS region, toInt64(sum(p.packets)) AS packets, toInt64(sum(p.kept)) AS kept,
            toDateTime64(min(p.second), 9, 'UTC') AS began, toDateTime64(max(p.second), 9, 'UTC') AS last
        FROM sidetone.packets_1s AS p
        WHERE p.session_id = {session:UUID}
    )
SELECT
    toString({session:UUID}) AS session_id,
    multiIf(s.steps > 0, s.region, c.facts > 0, c.region, n.region) AS region,
    toUnixTimestamp64Nano(multiIf(s.steps > 0, s.began, c.facts > 0, c.began, n.began)) AS began_ns,
    toUnixTimestamp64Nano(s.closed) AS ended_ns,
    toUnixTimestamp64Nano(greatest(s.last, c.last, n.last)) AS last_ns,
    s.closed_by AS closed_by,
    s.close_reason AS close_reason,
    (toUnixTimestamp64Nano(s.ice) - toUnixTimestamp64Nano(s.offered)) / 1e6 AS ice_ms,
    (toUnixTimestamp64Nano(s.dtls) - toUnixTimestamp64Nano(s.offered)) / 1e6 AS dtls_ms,
    (toUnixTimestamp64Nano(s.packet) - toUnixTimestamp64Nano(s.offered)) / 1e6 AS first_packet_ms,
    (toUnixTimestamp64Nano(s.frame) - toUnixTimestamp64Nano(s.offered)) / 1e6 AS first_frame_ms,
    c.turns AS turns,
    c.facts AS turn_facts,
    n.packets AS packets,
    n.kept AS packets_kept,
    s.attributes AS attributes
FROM steps AS s, conversation AS c, network AS n
WHERE s.steps > 0 OR c.facts > 0 OR n.packets > 0
