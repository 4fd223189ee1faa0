    -- Facts observed before `facts_to` are looked at. One row a call, with both voices as arrays: the engine works out a
    -- query anew for each mention of a part of it, so a part that is mentioned often must be small. Times are ns since
    -- the epoch; 0 is no time.
    closings AS
    (
        SELECT session_id, min(observed_ns) AS closed_ns, argMin(attributes['who'], observed_ns) AS closed_by
        FROM sidetone.sessions
        WHERE step = 'closed'
            AND observed_ns >= {from:DateTime64(9, 'UTC')} - toIntervalMinute(5)
            AND observed_ns < facts_to
            AND (only_session = '' OR session_id = toUUIDOrZero(only_session))
        GROUP BY session_id
    ),
    voices AS
    (
        SELECT
            session_id,
            max(place) AS region,
            max(seen) AS seen,
            arraySort(x -> (x.at, x.starts), groupArrayIf(mark, kind IN ('user_speech_started', 'user_speech_stopped')))
                AS user_marks,
            arraySort(
                x -> (x.at, x.starts),
                groupArrayIf(mark, kind IN ('agent_audio_started', 'agent_resumed', 'agent_audio_stopped'))
            ) AS agent_marks,
            groupArrayIf(mark.at, kind = 'backchannel') AS signs,
            groupArrayIf(mark.at, kind IN ('endpoint_candidate', 'endpoint_decided') AND mark.reason = 'application') AS left_to,
            groupArrayIf(mark.at, kind = 'user_barged_in' AND mark.reason = 'application') AS withstood
        FROM
        (
            SELECT
                session_id, region AS place, toUnixTimestamp64Nano(observed_ns) AS seen, kind,
                CAST(
                    (
                        toUnixTimestamp64Nano(at_ns), kind IN ('user_speech_started', 'agent_audio_started', 'agent_resumed'),
                        turn_id, kind = 'agent_audio_started', ifNull(toString(reason), '')
                    ),
                    'Tuple(at Int64, starts Bool, turn UInt32, onset Bool, reason String)'
                ) AS mark
            FROM turn_facts
            UNION ALL
            SELECT
                session_id, toString(region), toInt64(toUnixTimestamp(second)) * 1000000000, '',
                CAST((0, false, 0, false, ''), 'Tuple(at Int64, starts Bool, turn UInt32, onset Bool, reason String)')
            FROM sidetone.packets_1s
            WHERE session_id IN (SELECT session_id FROM turn_facts)
                AND second >= {from:DateTime64(9, 'UTC')} AND second < facts_to
        )
        GROUP BY session_id
    ),
    -- Intervals of speech: from each start to the same voice's next mark; without an end while it lasts.
    intervals AS
    (
        SELECT
            v.session_id AS session_id, v.region AS region, v.seen AS seen, v.signs AS signs, v.left_to AS left_to, v.withstood AS withstood,
            ifNull(c.closed_by, '') AS closed_by,
            ifNull(toUnixTimestamp64Nano(c.closed_ns), 0) AS closed,
            arrayMap(
                i -> CAST(
                    (v.agent_marks[i].at, v.agent_marks[i + 1].at, v.agent_marks[i].turn, v.agent_marks[i].onset, v.agent_marks[i + 1].reason),
                    'Tuple(start Int64, stop Int64, turn UInt32, onset Bool, reason String)'
                ),
                arrayFilter(i -> v.agent_marks[i].starts, arrayEnumerate(v.agent_marks))
            ) AS agents,
            arrayMap(
                i -> CAST((v.user_marks[i].at, v.user_marks[i + 1].at, v.user_marks[i].turn), 'Tuple(start Int64, stop Int64, turn UInt32)'),
                arrayFilter(i -> v.user_marks[i].starts, arrayEnumerate(v.user_marks))
            ) AS spoken
        FROM voices AS v
        LEFT JOIN closings AS c ON v.session_id = c.session_id
    ),
    -- `known`: how long each call is known to have lasted, to its close or to the last thing seen of it.
    -- `users`: what the user said; `before`: the end of the words before; `owed`: whether they are to be answered, which
    -- they are not where the application decides that; `interrupts`: false where the application lets
    -- the user interrupt nothing.
    conversations AS MATERIALIZED
    (
        SELECT
            session_id, region, seen, closed, closed_by, agents, if(closed > 0, closed, seen) AS known,
            arrayMap(
                i -> CAST(
                    (
                        spoken[i].start, spoken[i].stop, spoken[i].turn, spoken[i - 1].stop,
                        -- Whoever speaks for a second or more claims the floor, whatever the relay took it for.
                        greatest(spoken[i].stop, spoken[i].start) < spoken[i].start + backchannel_ms * 1000000
                            AND arrayExists(
                                x -> x >= spoken[i].start
                                    AND x <= if(spoken[i].stop > 0, spoken[i].stop, spoken[i].start + 1000000000),
                                signs
                            ),
                        NOT arrayExists(
                            x -> x >= spoken[i].stop AND spoken[i].stop > 0 AND (spoken[i + 1].start = 0 OR x < spoken[i + 1].start),
                            left_to
                        ),
                        NOT arrayExists(x -> x >= spoken[i].start AND (spoken[i].stop = 0 OR x <= spoken[i].stop), withstood)
                    ),
                    'Tuple(start Int64, stop Int64, turn UInt32, before Int64, backchannel Bool, owed Bool, interrupts Bool)'
                ),
                arrayEnumerate(spoken)
            ) AS users
        FROM intervals
    )
