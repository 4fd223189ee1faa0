    -- Each agent interval beside each utterance of the same call.
    meetings AS MATERIALIZED
    (
        SELECT
            a.session_id AS session_id,
            a.region AS region,
            a.turn_id AS turn_id,
            a.first_onset AS first_onset,
            a.start_ns AS agent_ns,
            a.end_ns AS agent_end_ns,
            coalesce(a.end_ns, h.closed_ns, h.seen_ns) AS agent_until_ns,
            ifNull(a.reason, '') AS agent_reason,
            u.turn_id AS user_turn_id,
            u.start_ns AS user_ns,
            coalesce(u.end_ns, h.closed_ns, h.seen_ns) AS user_until_ns,
            u.backchannel AS backchannel,
            -- The agent came first by little, and the user had only paused: what follows is the same turn, gone on with.
            first_onset AND a.turn_id > 0 AND u.start_ns <= a.start_ns + toIntervalMillisecond(cut_in_ms)
                AND (u.start_ns <= a.start_ns OR ifNull(u.start_ns <= u.before_ns + toIntervalMillisecond(resume_ms), false))
                AS cut_in,
            coalesce(h.closed_ns, h.seen_ns) AS known_ns
        FROM (SELECT * FROM speech WHERE who = 'agent') AS a
        INNER JOIN user_speech AS u ON a.session_id = u.session_id
        INNER JOIN horizons AS h ON a.session_id = h.session_id
    ),
    barge_ins AS
    (
        SELECT
            *,
            least(user_until_ns, user_ns + toIntervalMillisecond(stop_ms)) AS deadline_ns,
            (toUnixTimestamp64Nano(agent_until_ns) - toUnixTimestamp64Nano(user_ns)) / 1e6 AS stopped_after_ms
        FROM meetings
        WHERE user_ns > agent_ns AND user_ns < agent_until_ns AND NOT cut_in
            AND user_until_ns >= user_ns + toIntervalMillisecond(barge_in_ms)
            AND NOT backchannel
    ),
    -- What each utterance got: the agent's next onset, or the user's next words. An utterance that ends while the agent
    -- speaks waits for nothing here; the barge-in and talk-over rules judge it.
    utterances AS
    (
        SELECT
            *,
            arrayFirstOrNull(x -> x.1 > start_ns, onsets).1 AS onset_ns,
            least(ifNull(onset_ns, known_ns), ifNull(next_ns, known_ns)) AS until_ns,
            (toUnixTimestamp64Nano(until_ns) - toUnixTimestamp64Nano(end_ns)) / 1e6 AS waited_ms
        FROM
        (
            SELECT
                u.session_id AS session_id,
                h.region AS region,
                u.turn_id AS turn_id,
                u.start_ns AS start_ns,
                u.end_ns AS end_ns,
                leadInFrame(toNullable(u.start_ns)) OVER (
                    PARTITION BY u.session_id ORDER BY u.start_ns ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING
                ) AS next_ns,
                coalesce(h.closed_ns, h.seen_ns) AS known_ns,
                h.agent_speech AS onsets
            FROM user_speech AS u
            INNER JOIN horizons AS h ON u.session_id = h.session_id
            WHERE NOT u.backchannel
        )
        WHERE isNotNull(end_ns) AND NOT arrayExists(x -> x.1 <= end_ns AND (isNull(x.2) OR x.2 > end_ns), onsets)
    ),
    -- Mutual silence: from where the furthest speech so far ended to where the next begins, or to the call's end.
    silences AS MATERIALIZED
    (
        SELECT
            *,
            isNull(next_ns) AS final,
            coalesce(next_ns, closed_ns, seen_ns) AS until_ns,
            (toUnixTimestamp64Nano(until_ns) - toUnixTimestamp64Nano(silent_ns)) / 1e6 AS silent_ms
        FROM
        (
            SELECT
                s.session_id AS session_id,
                s.region AS region,
                h.closed_ns AS closed_ns,
                h.closed_by AS closed_by,
                h.seen_ns AS seen_ns,
                coalesce(s.end_ns, h.closed_ns, h.seen_ns) AS end_ns,
                max(end_ns) OVER so_far AS silent_ns,
                argMax(s.turn_id, end_ns) OVER so_far AS turn_id,
                if(argMax(s.who, end_ns) OVER so_far = 'user', 'agent', 'user') AS owed_by,
                leadInFrame(toNullable(s.start_ns)) OVER (
                    PARTITION BY s.session_id ORDER BY s.start_ns ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING
                ) AS next_ns
            FROM speech AS s
            INNER JOIN horizons AS h ON s.session_id = h.session_id
            WINDOW so_far AS (PARTITION BY s.session_id ORDER BY s.start_ns ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
        )
        WHERE until_ns > silent_ns
    ),
    all_errors AS MATERIALIZED
    (
        SELECT
            session_id, region, turn_id, agent_ns AS at_ns, 'agent_cut_user' AS kind, 'agent' AS side,
            min((toUnixTimestamp64Nano(user_ns) - toUnixTimestamp64Nano(agent_ns)) / 1e6) AS value_ms,
            cut_in_ms AS threshold_ms,
            if(
                value_ms < 0,
                'the agent began while the user was speaking',
                concat('the agent began in a pause; the user went on ', toString(round(value_ms)), ' ms later')
            ) AS evidence
        FROM meetings
        WHERE cut_in AND NOT backchannel AND user_until_ns > agent_ns
        GROUP BY session_id, region, turn_id, agent_ns

        UNION ALL
        SELECT
            session_id, region, turn_id, assumeNotNull(user_stopped_ns), 'late_response', 'agent',
            assumeNotNull(response_ms), late_ms,
            concat('the agent began ', toString(round(response_ms)), ' ms after the user had finished')
        FROM turns
        WHERE response_ms > late_ms AND response_ms < miss_ms

        UNION ALL
        SELECT
            session_id, region, turn_id, assumeNotNull(end_ns), 'missed_response', 'agent', waited_ms,
            if(until_ns = next_ns, late_ms, miss_ms),
            concat(
                'no answer for ', toString(round(waited_ms)), ' ms',
                if(ifNull(until_ns = next_ns, 0), ', then the user spoke again', '')
            )
        FROM utterances
        WHERE waited_ms >= miss_ms OR (until_ns = next_ns AND waited_ms > late_ms)

        UNION ALL
        SELECT
            a.session_id, a.region, a.turn_id, assumeNotNull(a.end_ns) AS yielded_ns, 'false_barge_in', 'agent',
            -- All that the user said from its onset over the agent until 2 s after the agent had given way.
            sumIf(
                toUnixTimestamp64Nano(least(coalesce(u.end_ns, h.closed_ns, h.seen_ns), yielded_ns + toIntervalMillisecond(false_ms)))
                - toUnixTimestamp64Nano(u.start_ns),
                coalesce(u.end_ns, h.seen_ns) > a.start_ns AND u.start_ns < yielded_ns + toIntervalMillisecond(false_ms)
            ) / 1e6 AS spoken_ms,
            backchannel_ms,
            concat('the agent gave way; the user spoke ', toString(round(spoken_ms)), ' ms in all until 2 s later')
        FROM (SELECT * FROM speech WHERE who = 'agent' AND reason = 'yielded' AND isNotNull(end_ns)) AS a
        INNER JOIN horizons AS h ON a.session_id = h.session_id
        LEFT JOIN user_speech AS u ON a.session_id = u.session_id
        GROUP BY a.session_id, a.region, a.turn_id, a.start_ns, a.end_ns, h.closed_ns, h.seen_ns
        HAVING spoken_ms < backchannel_ms AND coalesce(h.closed_ns, h.seen_ns) >= yielded_ns + toIntervalMillisecond(false_ms)

        UNION ALL
        SELECT
            session_id, region, turn_id, user_ns, 'missed_barge_in', 'agent', stopped_after_ms, stop_ms,
            concat('the user spoke up; the agent went on for ', toString(round(stopped_after_ms)), ' ms')
        FROM barge_ins
        -- Giving way within the limit has a stop latency, be it that the user had just drawn breath.
        WHERE agent_until_ns > deadline_ns AND known_ns >= deadline_ns
            AND NOT (agent_reason = 'yielded' AND stopped_after_ms <= stop_ms)

        UNION ALL
        SELECT
            session_id, region, turn_id, user_ns, 'slow_yield', 'agent', stopped_after_ms, slow_ms,
            concat('the user spoke up; the agent gave way only ', toString(round(stopped_after_ms)), ' ms later')
        FROM barge_ins
        WHERE agent_reason = 'yielded' AND stopped_after_ms > slow_ms AND stopped_after_ms <= stop_ms

        UNION ALL
        SELECT
            session_id, region, turn_id, greatest(agent_ns, user_ns) AS met_ns, 'talk_over', 'agent',
            (toUnixTimestamp64Nano(least(agent_until_ns, user_until_ns)) - toUnixTimestamp64Nano(met_ns)) / 1e6 AS overlap_ms,
            talk_over_ms,
            concat('both spoke for ', toString(round(overlap_ms)), ' ms and the agent did not give way')
        FROM meetings
        WHERE NOT backchannel AND agent_reason != 'yielded' AND overlap_ms >= talk_over_ms

        UNION ALL
        SELECT
            session_id, region, turn_id, silent_ns, 'dead_air', owed_by, silent_ms, dead_air_ms,
            concat('nobody spoke for ', toString(round(silent_ms)), ' ms; it was the ', owed_by, '\'s turn')
        FROM silences
        WHERE silent_ms > dead_air_ms

        UNION ALL
        SELECT
            session_id, region, turn_id, silent_ns, 'abandoned', 'agent', silent_ms, if(silent_ms >= away_ms, away_ms, late_ms),
            if(
                silent_ms >= away_ms,
                concat('the user fell silent for ', toString(round(silent_ms)), ' ms without an answer'),
                concat('the user hung up after ', toString(round(silent_ms)), ' ms without an answer')
            )
        FROM silences
        WHERE owed_by = 'agent'
            AND (
                silent_ms >= away_ms
                OR (final AND isNotNull(closed_ns) AND ifNull(closed_by, '') NOT IN ('agent', 'operator', 'system') AND silent_ms > late_ms)
            )
    ),
    errors AS
    (
        SELECT * FROM all_errors
        WHERE at_ns >= {from:DateTime64(9, 'UTC')} AND at_ns < {to:DateTime64(9, 'UTC')}
    )
