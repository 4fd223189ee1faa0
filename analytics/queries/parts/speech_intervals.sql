    -- Intervals of speech: from each start to the same voice's next mark; the end is NULL while it lasts.
    speech AS MATERIALIZED
    (
        SELECT session_id, region, turn_id, who, first_onset, at_ns AS start_ns, next_ns AS end_ns, next_reason AS reason
        FROM
        (
            SELECT
                session_id,
                region,
                turn_id,
                if(startsWith(kind, 'user'), 'user', 'agent') AS who,
                kind IN ('user_speech_started', 'agent_audio_started', 'agent_resumed') AS starts,
                kind = 'agent_audio_started' AS first_onset,
                at_ns,
                leadInFrame(toNullable(at_ns)) OVER marks AS next_ns,
                leadInFrame(toNullable(toString(reason))) OVER marks AS next_reason
            FROM turn_facts
            WHERE kind IN (
                'user_speech_started', 'user_speech_stopped', 'agent_audio_started', 'agent_resumed', 'agent_audio_stopped'
            )
            WINDOW marks AS (
                PARTITION BY session_id, who ORDER BY at_ns, starts ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING
            )
        )
        WHERE starts
    ),
    backchannels AS
    (
        SELECT session_id, groupArray(at_ns) AS times FROM turn_facts WHERE kind = 'backchannel' GROUP BY session_id
    )
