    turn_marks AS
    (
        SELECT
            session_id,
            turn_id,
            any(region) AS region,
            minOrNullIf(at_ns, kind = 'agent_audio_started') AS agent_started_ns,
            minOrNullIf(at_ns, kind = 'agent_audio_stopped') AS agent_stopped_ns,
            groupArrayIf(at_ns, kind = 'user_speech_started') AS onsets,
            groupArrayIf((at_ns, observed_ns), kind = 'user_speech_stopped') AS stops,
            groupArrayIf(at_ns, kind = 'backchannel') AS backchannels,
            arraySort(groupArrayIf((at_ns, silence_ms), kind = 'endpoint_decided')) AS decisions,
            groupArrayIf(at_ns, kind = 'endpoint_revoked') AS revocations,
            groupArrayIf(at_ns, kind = 'response_requested') AS requests,
            countIf(kind = 'response_requested' AND reason = 'application') > 0 AS asked_for,
            groupArrayIf(at_ns, kind = 'model_first_audio') AS voiced
        FROM turn_facts
        WHERE turn_id > 0
        GROUP BY session_id, turn_id
    ),
    -- What the user said in the turn: a backchannel carries the number of the turn to come but is no part of it.
    turn_words AS
    (
        SELECT
            *,
            arraySort(arrayFilter(x -> NOT has(backchannels, x), onsets)) AS spoken,
            arraySort(arrayFilter(
                x -> empty(backchannels) OR NOT has(backchannels, arrayMax(arrayFilter(y -> y <= x.1, onsets))), stops
            )) AS ended,
            -- Only what came before the answer can have led to it.
            arrayFilter(x -> isNull(agent_started_ns) OR x.1 <= agent_started_ns, decisions) AS led,
            arrayFilter(x -> isNull(agent_started_ns) OR x <= agent_started_ns, revocations) AS called_off,
            arrayFilter(x -> x <= agent_started_ns, requests) AS asked,
            arrayFilter(x -> x <= agent_started_ns, voiced) AS sounded
        FROM turn_marks
        WHERE notEmpty(spoken) OR notEmpty(ended)
    ),
    turn_decisions AS
    (
        SELECT
            session_id, turn_id, region, agent_started_ns, agent_stopped_ns, ended, asked_for,
            if(notEmpty(spoken), spoken[1], ended[1].1) AS began_ns,
            empty(led) OR (notEmpty(called_off) AND arrayMax(called_off) > led[-1].1) AS undecided,
            if(undecided, NULL, led[-1].1) AS decided_ns,
            if(undecided, NULL, led[-1].2) AS decided_silence_ms,
            if(empty(asked), NULL, arrayMax(asked)) AS requested_ns,
            if(empty(sounded), NULL, arrayMax(sounded)) AS first_audio_ns,
            if(undecided, agent_started_ns, led[-1].1) AS limit_ns
        FROM turn_words
    ),
    turn_ends AS
    (
        SELECT
            * EXCEPT (ended),
            arrayFilter(x -> isNull(limit_ns) OR x.1 <= limit_ns, ended) AS before,
            -- Where no acoustic end lies before the decision the first counts: the agent began while the user spoke, and
            -- the latency is negative.
            multiIf(empty(ended), NULL, empty(before), ended[1].1, before[-1].1) AS user_stopped_ns,
            if(empty(before), NULL, before[-1].2) AS stop_seen_ns
        FROM turn_decisions
    ),
    turns AS MATERIALIZED
    (
        SELECT
            * EXCEPT (before),
            (toUnixTimestamp64Nano(agent_started_ns) - toUnixTimestamp64Nano(user_stopped_ns)) / 1e6 AS response_ms
        FROM turn_ends
    ),
    -- Turns that began in the window.
    window_turns AS MATERIALIZED
    (
        SELECT * FROM turns
        WHERE began_ns >= {from:DateTime64(9, 'UTC')} AND began_ns < {to:DateTime64(9, 'UTC')}
    )
