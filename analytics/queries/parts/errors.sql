    -- Each stretch of the agent's speech beside all that the user said in the call.
    agent_errors AS
    (
        SELECT
            session_id, region, a.turn AS turn_id,
            arrayJoin(arrayConcat(
                if(
                    empty(cut_ns), [],
                    [(
                        a.start, 'agent_cut_user', arrayMin(cut_ns) / 1e6, cut_in_ms,
                        concat(
                            if(arrayMin(cut_ns) < 0, 'the agent began while the user was speaking', 'the agent began in a pause'),
                            multiIf(
                                paused_ms = 0, '',
                                arrayMin(cut_ns) < 0, concat(', who had paused for ', toString(round(paused_ms)), ' ms'),
                                concat(' of ', toString(round(paused_ms)), ' ms')
                            ),
                            if(
                                arrayMin(cut_ns) < 0, '',
                                concat('; the user went on ', toString(round(arrayMin(cut_ns) / 1e6)), ' ms later')
                            )
                        )
                    )]
                ),
                if(
                    NOT gave_way OR after_cut OR spoken_ms >= backchannel_ms OR known < a.stop + false_ms * 1000000, [],
                    [(
                        a.stop, 'false_barge_in', spoken_ms, backchannel_ms,
                        concat('the agent gave way; the user spoke ', toString(round(spoken_ms)), ' ms in all until 2 s later')
                    )]
                ),
                -- Giving way within the limit has a stop latency, be it that the user had just drawn breath.
                arrayMap(
                    x -> (
                        x.1, 'missed_barge_in', x.3, stop_ms,
                        concat('the user spoke up; the agent went on for ', toString(round(x.3)), ' ms')
                    ),
                    arrayFilter(x -> until > x.2 AND known >= x.2 AND NOT (a.reason = 'yielded' AND x.3 <= stop_ms), barge_ins)
                ),
                arrayMap(
                    x -> (
                        x.1, 'slow_yield', x.3, slow_ms,
                        concat('the user spoke up; the agent gave way only ', toString(round(x.3)), ' ms later')
                    ),
                    arrayFilter(x -> a.reason = 'yielded' AND x.3 > slow_ms AND x.3 <= stop_ms, barge_ins)
                ),
                arrayMap(
                    x -> (
                        x.1, 'talk_over', x.2, talk_over_ms,
                        concat('both spoke for ', toString(round(x.2)), ' ms and the agent did not give way')
                    ),
                    arrayFilter(x -> x.2 >= talk_over_ms, overlaps)
                )
            )) AS error
        FROM
        (
            SELECT
                *,
                -- The agent came first by little, and the user had only paused: what follows is the same turn, gone on with.
                arrayMap(
                    u -> a.onset AND a.turn > 0 AND u.start <= a.start + cut_in_ms * 1000000
                        AND (u.start <= a.start OR (u.before > 0 AND u.start <= u.before + resume_ms * 1000000)),
                    claims
                ) AS cut_in,
                arrayMap(
                    u -> u.start - a.start,
                    arrayFilter((u, cut) -> cut AND if(u.stop > 0, u.stop, known) > a.start, claims, cut_in)
                ) AS cut_ns,
                -- The pause that was taken for the end, from the words before to the first that were cut; 0 if it was none.
                arrayFirst((u, cut) -> cut AND if(u.stop > 0, u.stop, known) > a.start, claims, cut_in) AS cut_off,
                if(
                    cut_off.before > 0 AND cut_off.start <= cut_off.before + resume_ms * 1000000,
                    (cut_off.start - cut_off.before) / 1e6, 0
                ) AS paused_ms,
                a.reason = 'yielded' AND a.stop > 0 AS gave_way,
                -- What the agent gave way to was what it had cut off.
                arrayExists(
                    u -> if(u.stop > 0, u.stop, seen) > a.start AND u.start < a.stop
                        AND (
                            u.start <= a.start
                            OR (u.start <= a.start + cut_in_ms * 1000000 AND u.before > 0 AND u.start <= u.before + resume_ms * 1000000)
                        ),
                    users
                ) AS after_cut,
                -- All that the user said from its onset over the agent until 2 s after the agent had given way.
                arraySum(
                    u -> if(
                        if(u.stop > 0, u.stop, seen) > a.start AND u.start < a.stop + false_ms * 1000000,
                        least(if(u.stop > 0, u.stop, known), a.stop + false_ms * 1000000) - u.start, 0
                    ),
                    users
                ) / 1e6 AS spoken_ms,
                -- Onset, how long the agent had to give way, and after how many ms it stopped.
                arrayMap(
                    u -> (
                        u.start, least(if(u.stop > 0, u.stop, known), u.start + stop_ms * 1000000),
                        (until - u.start) / 1e6
                    ),
                    arrayFilter(
                        (u, cut) -> u.start > a.start AND u.start < until AND NOT cut AND u.interrupts
                            AND if(u.stop > 0, u.stop, known) >= u.start + barge_in_ms * 1000000,
                        claims, cut_in
                    )
                ) AS barge_ins,
                arrayMap(
                    u -> (
                        greatest(a.start, u.start),
                        (least(until, if(u.stop > 0, u.stop, known)) - greatest(a.start, u.start)) / 1e6
                    ),
                    if(a.reason = 'yielded', [], claims)
                ) AS overlaps
            FROM
            (
                SELECT
                    session_id, region, seen, known, users, a, if(a.stop > 0, a.stop, known) AS until,
                    arrayFilter(u -> NOT u.backchannel, users) AS claims
                FROM conversations
                ARRAY JOIN agents AS a
            )
        )
    ),
    -- What each utterance got: the agent's next onset, or the user's next words. An utterance that ends while the agent
    -- speaks waits for nothing here; the barge-in and talk-over rules judge it.
    utterances AS
    (
        SELECT
            *,
            arrayFirst(x -> x.start > u.start, agents).start AS onset,
            least(if(onset > 0, onset, known), if(next > 0, next, known)) AS until,
            next > 0 AND until = next AS spoke_again,
            (until - u.stop) / 1e6 AS waited_ms
        FROM
        (
            SELECT session_id, region, known, agents, u, next
            FROM (SELECT *, arrayFilter(x -> NOT x.backchannel, users) AS claims FROM conversations)
            ARRAY JOIN claims AS u, arrayMap(i -> claims[i + 1].start, arrayEnumerate(claims)) AS next
        )
        WHERE u.stop > 0 AND u.owed AND NOT arrayExists(x -> x.start <= u.stop AND (x.stop = 0 OR x.stop > u.stop), agents)
    ),
    -- Mutual silence: from where the furthest speech so far ended to where the next begins, or to the call's end.
    silences AS
    (
        SELECT
            *,
            furthest.stop AS silent,
            furthest.who = 'user' AS user_last,
            if(next > 0, next, known) AS until,
            (until - silent) / 1e6 AS silent_ms
        FROM
        (
            SELECT
                session_id, region, closed, closed_by, known, next,
                arrayFirst(x -> x.stop = arrayMax(y -> y.stop, so_far), so_far) AS furthest
            FROM
            (
                SELECT
                    *,
                    arraySort(x -> x.start, arrayConcat(
                        arrayMap(
                            x -> CAST(
                                (x.start, if(x.stop > 0, x.stop, known), x.turn, 'agent'),
                                'Tuple(start Int64, stop Int64, turn UInt32, who String)'
                            ),
                            agents
                        ),
                        arrayMap(
                            x -> CAST(
                                (x.start, if(x.stop > 0, x.stop, known), x.turn, if(x.owed, 'user', '')),
                                'Tuple(start Int64, stop Int64, turn UInt32, who String)'
                            ),
                            users
                        )
                    )) AS speech
                FROM conversations
            )
            ARRAY JOIN
                arrayMap(i -> speech[i + 1].start, arrayEnumerate(speech)) AS next,
                arrayMap(i -> arraySlice(speech, 1, i), arrayEnumerate(speech)) AS so_far
        )
        WHERE until > silent AND furthest.who != ''  -- it is nobody's turn where the application decides on answers
    ),
    all_errors AS MATERIALIZED
    (
        SELECT
            session_id, region, turn_id, fromUnixTimestamp64Nano(error.1, 'UTC') AS at_ns, error.2 AS kind, side,
            toFloat64(error.3) AS value_ms, error.4 AS threshold_ms, error.5 AS evidence
        FROM
        (
            SELECT session_id, region, turn_id, 'agent' AS side, error FROM agent_errors

            UNION ALL
            SELECT
                session_id, region, turn_id, 'agent',
                (
                    toUnixTimestamp64Nano(assumeNotNull(user_stopped_ns)), 'late_response', assumeNotNull(response_ms), late_ms,
                    concat('the agent began ', toString(round(assumeNotNull(response_ms))), ' ms after the user had finished')
                )
            FROM turns
            WHERE response_ms > late_ms AND response_ms < miss_ms AND NOT asked_for

            UNION ALL
            SELECT
                session_id, region, u.turn, 'agent',
                (
                    u.stop, 'missed_response', waited_ms, if(spoke_again, late_ms, miss_ms),
                    concat(
                        'no answer for ', toString(round(waited_ms)), ' ms', if(spoke_again, ', then the user spoke again', '')
                    )
                )
            FROM utterances
            WHERE waited_ms >= miss_ms OR (spoke_again AND waited_ms > late_ms)

            UNION ALL
            SELECT
                session_id, region, furthest.turn, tupleElement(found, 1), tupleElement(found, 2)
            FROM silences
            ARRAY JOIN arrayConcat(
                if(
                    silent_ms <= dead_air_ms, [],
                    [(
                        if(user_last, 'agent', 'user'),
                        (
                            silent, 'dead_air', silent_ms, dead_air_ms,
                            concat('nobody spoke for ', toString(round(silent_ms)), ' ms; it was the ', if(user_last, 'agent', 'user'), '\'s turn')
                        )
                    )]
                ),
                if(
                    NOT user_last OR NOT (
                        silent_ms >= away_ms
                        OR (next = 0 AND closed > 0 AND closed_by NOT IN ('agent', 'operator', 'system') AND silent_ms > late_ms)
                    ),
                    [],
                    [(
                        'agent',
                        (
                            silent, 'abandoned', silent_ms, if(silent_ms >= away_ms, away_ms, late_ms),
                            if(
                                silent_ms >= away_ms,
                                concat('the user fell silent for ', toString(round(silent_ms)), ' ms without an answer'),
                                concat('the user hung up after ', toString(round(silent_ms)), ' ms without an answer')
                            )
                        )
                    )]
                )
            ) AS found
        )
    ),
    errors AS
    (
        SELECT * FROM all_errors
        WHERE at_ns >= {from:DateTime64(9, 'UTC')} AND at_ns < {to:DateTime64(9, 'UTC')}
    )
