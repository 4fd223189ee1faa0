    turn_marks AS
    (
        SELECT
            session_id,
            turn_id,
            any(region) AS region,
            min(at_ns) AS began_ns,
            minOrNullIf(at_ns, kind = 'user_speech_started') AS user_started_ns,
            minOrNullIf(at_ns, kind = 'agent_audio_started') AS agent_started_ns,
            maxOrNullIf(at_ns, kind = 'endpoint_revoked') AS revoked_ns,
            countIf(kind = 'backchannel') > 0 AS backchannel,
            groupArrayIf((at_ns, observed_ns), kind = 'user_speech_stopped') AS stops,
            groupArrayIf((at_ns, silence_ms), kind = 'endpoint_decided') AS decisions,
            groupArrayIf(at_ns, kind = 'response_requested') AS requests,
            groupArrayIf(at_ns, kind = 'model_first_audio') AS audios,
            countIf(kind IN ('user_speech_started', 'user_speech_stopped')) AS said
        FROM turn_facts
        WHERE turn_id > 0
        GROUP BY session_id, turn_id
        HAVING said > 0
    ),
    -- The answer belongs to the decision before it, the decision to the last acoustic end before it. Where no end lies
    -- before the decision the first one counts: the agent began while the user spoke, and the latency is negative.
    turns AS MATERIALIZED
    (
        SELECT
            * EXCEPT (stops, decisions, requests, audios),
            arrayFilter(x -> isNull(agent_started_ns) OR x.1 <= agent_started_ns, decisions) AS led,
            if(empty(led), NULL, arraySort(x -> x.1, led)[-1].1) AS decided_ns,
            if(empty(led), NULL, arraySort(x -> x.1, led)[-1].2) AS decided_silence_ms,
            if(empty(arrayFilter(x -> x <= agent_started_ns, requests) AS asked), NULL, arrayMax(asked)) AS requested_ns,
            if(empty(arrayFilter(x -> x <= agent_started_ns, audios) AS voiced), NULL, arrayMax(voiced)) AS first_audio_ns,
            coalesce(decided_ns, agent_started_ns) AS limit_ns,
            arrayFilter(x -> isNull(limit_ns) OR x.1 <= limit_ns, stops) AS ends,
            multiIf(empty(stops), NULL, empty(ends), arrayMin(x -> x.1, stops), arrayMax(x -> x.1, ends)) AS user_stopped_ns,
            if(empty(ends), NULL, arraySort(ends)[-1].2) AS stop_seen_ns,
            (toUnixTimestamp64Nano(agent_started_ns) - toUnixTimestamp64Nano(user_stopped_ns)) / 1e6 AS response_ms,
            leadInFrame(user_started_ns) OVER (
                PARTITION BY session_id ORDER BY turn_id ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING
            ) AS next_user_ns
        FROM turn_marks
    ),
    -- Turns that began in the window.
    window_turns AS MATERIALIZED
    (
        SELECT * FROM turns
        WHERE began_ns >= {from:DateTime64(9, 'UTC')} AND began_ns < {to:DateTime64(9, 'UTC')}
    )
