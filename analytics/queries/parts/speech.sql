-- include: parts/speech_intervals.sql
,
    user_speech AS MATERIALIZED
    (
        SELECT
            s.session_id AS session_id, s.turn_id AS turn_id, s.start_ns AS start_ns, s.end_ns AS end_ns,
            -- Whoever speaks for a second or more claims the floor, whatever the relay took it for.
            arrayExists(x -> x >= s.start_ns AND x <= coalesce(s.end_ns, s.start_ns + toIntervalSecond(1)), b.times)
                AND coalesce(s.end_ns, s.start_ns) < s.start_ns + toIntervalMillisecond(backchannel_ms) AS backchannel,
            lagInFrame(s.end_ns) OVER (
                PARTITION BY s.session_id ORDER BY s.start_ns ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
            ) AS before_ns
        FROM speech AS s
        LEFT JOIN backchannels AS b ON s.session_id = b.session_id
        WHERE s.who = 'user'
    ),
    -- How long each call is known to have lasted: to its close, or to the last thing seen of it.
    closings AS
    (
        SELECT session_id, min(observed_ns) AS closed_ns, argMin(attributes['who'], observed_ns) AS closed_by
        FROM sidetone.sessions
        WHERE step = 'closed'
            AND observed_ns >= {from:DateTime64(9, 'UTC')} - toIntervalMinute(5)
            AND observed_ns < {to:DateTime64(9, 'UTC')} + toIntervalMinute(5)
            AND (only_session = '' OR session_id = toUUIDOrZero(only_session))
        GROUP BY session_id
    ),
    horizons AS MATERIALIZED
    (
        SELECT
            t.session_id AS session_id, t.region AS region, t.seen_ns AS seen_ns, a.agent_speech AS agent_speech,
            c.closed_ns AS closed_ns, c.closed_by AS closed_by
        FROM
        (
            SELECT session_id, max(place) AS region, max(seen) AS seen_ns
            FROM
            (
                SELECT session_id, region AS place, observed_ns AS seen FROM turn_facts
                UNION ALL
                SELECT session_id, toString(region) AS place, toDateTime64(second, 9, 'UTC') AS seen
                FROM sidetone.packets_1s
                WHERE session_id IN (SELECT session_id FROM turn_facts)
                    AND second >= {from:DateTime64(9, 'UTC')} AND second < {to:DateTime64(9, 'UTC')} + toIntervalMinute(5)
            )
            GROUP BY session_id
        ) AS t
        LEFT JOIN
        (
            SELECT session_id, arraySort(groupArray((start_ns, end_ns))) AS agent_speech
            FROM speech
            WHERE who = 'agent'
            GROUP BY session_id
        ) AS a ON t.session_id = a.session_id
        LEFT JOIN closings AS c ON t.session_id = c.session_id
    )
