    -- Facts of the conversation in and around the window. The margin lets a turn that straddles an edge be seen whole;
    -- each turn and each error then counts in the one window that its own time lies in, so that windows add up.
    turn_facts AS MATERIALIZED
    (
        SELECT session_id, toString(region) AS region, turn_id, toString(kind) AS kind, at_ns, observed_ns, reason, silence_ms
        FROM sidetone.turns
        WHERE observed_ns >= {from:DateTime64(9, 'UTC')} - toIntervalMinute(5)
            AND observed_ns < {to:DateTime64(9, 'UTC')} + toIntervalMinute(5)
            AND (empty({region:Array(String)}) OR has({region:Array(String)}, region))
            AND (only_session = '' OR session_id = toUUIDOrZero(only_session))
    )
