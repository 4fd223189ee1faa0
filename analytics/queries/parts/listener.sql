    -- What the listener told of each answer: when its first voiced sample was played, how long that was after its own
    -- last voiced sample, both by its own clock, and how that clock stands to ours.
    heard AS
    (
        SELECT
            session_id,
            if(mapContains(values, 'heard_delay_ms'), toNullable(values['heard_delay_ms']), NULL) AS heard_ms,
            if(mapContains(values, 'clock_error_ms'), toNullable(values['clock_error_ms']), NULL) AS clock_error_ms,
            if(mapContains(values, 'playout_delay_ms'), toNullable(values['playout_delay_ms']), NULL) AS wait_ms,
            if(isNull(clock_error_ms), NULL, client_ns + toIntervalNanosecond(toInt64(values['clock_offset_ms'] * 1e6))) AS heard_ns,
            coalesce(heard_ns, observed_ns) AS known_ns
        FROM sidetone.clients
        WHERE session_id IN (SELECT session_id FROM turn_facts) AND kind = 'playout'
            AND observed_ns >= {from:DateTime64(9, 'UTC')} - toIntervalMinute(5)
            AND observed_ns < {to:DateTime64(9, 'UTC')} + toIntervalMinute(5)
    ),
    -- The one report that belongs to each answer: the first after the answer left, within what a bad way may take.
    turn_heard AS
    (
        SELECT
            t.session_id AS session_id,
            t.turn_id AS turn_id,
            argMin((h.heard_ms, h.heard_ns, h.clock_error_ms, h.wait_ms), h.known_ns) AS report,
            report.1 AS heard_ms,
            report.2 AS heard_ns,
            report.3 AS clock_error_ms,
            report.4 AS wait_ms,
            -- The way up and down, each wrong by the clocks' error, in opposite directions: their sum is free of it.
            (toUnixTimestamp64Nano(any(t.user_stopped_ns)) - toUnixTimestamp64Nano(heard_ns)) / 1e6 + heard_ms AS uplink_ms,
            (toUnixTimestamp64Nano(heard_ns) - toUnixTimestamp64Nano(any(t.agent_started_ns))) / 1e6 AS downlink_ms
        FROM window_turns AS t
        INNER JOIN heard AS h ON t.session_id = h.session_id
        WHERE h.known_ns >= t.agent_started_ns - toIntervalMillisecond(50)
            AND h.known_ns < t.agent_started_ns + toIntervalSecond(3)
        GROUP BY t.session_id, t.turn_id
    )
