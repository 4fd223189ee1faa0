    -- Limits of the turn-taking errors, in ms; docs/metrics.md says where each comes from.
    1000 AS cut_in_ms, 2500 AS late_ms, 5000 AS miss_ms, 200 AS barge_in_ms, 2000 AS stop_ms, 2000 AS false_ms,
    500 AS talk_over_ms, 3000 AS dead_air_ms, 15000 AS away_ms,
    1500 AS resume_ms, 1000 AS backchannel_ms, 1000 AS slow_ms
