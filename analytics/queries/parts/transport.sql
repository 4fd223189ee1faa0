    -- Round trips between client and transceiver, and how long the client holds voice before it is heard.
    trips AS
    (
        SELECT session_id, observed_ns, toString(leg) AS leg, rtt_us / 1000 AS ms
        FROM sidetone.legs
        WHERE session_id IN (SELECT session_id FROM turn_facts) AND leg != 'transceiver_model'
            AND observed_ns >= {from:DateTime64(9, 'UTC')} - toIntervalMinute(5)
            AND observed_ns < {to:DateTime64(9, 'UTC')} + toIntervalMinute(5)
        UNION ALL
        -- ICE checks pass through the edge, so a candidate pair's round trip is the whole way.
        SELECT session_id, observed_ns, 'client_transceiver', values['currentRoundTripTime'] * 1000
        FROM sidetone.clients
        WHERE session_id IN (SELECT session_id FROM turn_facts) AND kind = 'candidate-pair'
            AND mapContains(values, 'currentRoundTripTime')
            AND observed_ns >= {from:DateTime64(9, 'UTC')} - toIntervalMinute(5)
            AND observed_ns < {to:DateTime64(9, 'UTC')} + toIntervalMinute(5)
        UNION ALL
        -- What the client says of one answer: from the arrival of its first voiced packet to its playout.
        SELECT session_id, observed_ns, 'answer', values['playout_delay_ms']
        FROM sidetone.clients
        WHERE session_id IN (SELECT session_id FROM turn_facts) AND kind = 'playout'
            AND mapContains(values, 'playout_delay_ms')
            AND observed_ns >= {from:DateTime64(9, 'UTC')} - toIntervalMinute(5)
            AND observed_ns < {to:DateTime64(9, 'UTC')} + toIntervalMinute(5)
        UNION ALL
        -- W3C inbound-rtp: mean time in the receive buffer = growth of jitterBufferDelay / growth of jitterBufferEmittedCount.
        SELECT session_id, observed_ns, 'playout', if(emitted > emitted_before, (held - held_before) / (emitted - emitted_before) * 1000, NULL)
        FROM
        (
            SELECT
                session_id,
                observed_ns,
                values['jitterBufferDelay'] AS held,
                values['jitterBufferEmittedCount'] AS emitted,
                lagInFrame(values['jitterBufferDelay'], 1, 0.) OVER samples AS held_before,
                lagInFrame(values['jitterBufferEmittedCount'], 1, 0.) OVER samples AS emitted_before
            FROM sidetone.clients
            WHERE session_id IN (SELECT session_id FROM turn_facts) AND kind = 'inbound-rtp'
                AND mapContains(values, 'jitterBufferDelay')
                AND observed_ns >= {from:DateTime64(9, 'UTC')} - toIntervalMinute(5)
                AND observed_ns < {to:DateTime64(9, 'UTC')} + toIntervalMinute(5)
            WINDOW samples AS (
                PARTITION BY session_id, stream ORDER BY observed_ns ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
            )
        )
    ),
    -- The samples near each turn: within 15 s, about three reports of a client.
    turn_transport AS
    (
        SELECT
            t.session_id AS session_id,
            t.turn_id AS turn_id,
            quantileExactOrNullIf(0.5)(s.ms, s.leg = 'client_edge') AS client_edge_ms,
            quantileExactOrNullIf(0.5)(s.ms, s.leg = 'edge_transceiver') AS edge_transceiver_ms,
            quantileExactOrNullIf(0.5)(s.ms, s.leg = 'client_transceiver') AS client_transceiver_ms,
            -- The buffer's mean: a packet that was long on its way waits the less, so that this answer's own wait, without
            -- its own time on the way, would say less.
            coalesce(
                quantileExactOrNullIf(0.5)(s.ms, s.leg = 'playout'),
                argMinOrNullIf(
                    s.ms, s.observed_ns,
                    s.leg = 'answer' AND s.observed_ns >= t.agent_started_ns
                        AND s.observed_ns < t.agent_started_ns + toIntervalSecond(3)
                )
            ) AS playout_ms,
            -- Half of the round trip each way: symmetry is assumed, not measured.
            coalesce(client_edge_ms + edge_transceiver_ms, client_transceiver_ms) / 2 AS one_way_ms,
            -- The acoustic end is timed as if it had arrived undelayed, so on the way up only the least delay counts.
            coalesce(
                minOrNullIf(s.ms, s.leg = 'client_edge') + minOrNullIf(s.ms, s.leg = 'edge_transceiver'),
                minOrNullIf(s.ms, s.leg = 'client_transceiver')
            ) / 2 AS uplink_ms,
            -- libopus' look-ahead: what is heard of a packet's first sample comes that much later (RFC 7845, section 4.2).
            one_way_ms + 6.5 AS downlink_ms
        FROM window_turns AS t
        INNER JOIN trips AS s ON t.session_id = s.session_id
        WHERE abs(toUnixTimestamp64Nano(s.observed_ns) - toUnixTimestamp64Nano(coalesce(t.user_stopped_ns, t.began_ns))) <= 15000000000
        GROUP BY t.session_id, t.turn_id
    )
