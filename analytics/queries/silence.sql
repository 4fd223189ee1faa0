-- title: Silence on the wire, by call and side
-- From the audio levels in the clear of each packet (RFC 6464) at the edge: the user's on the way up, the agent's on the
-- way down. A second is silent if packets came and none was louder than -60 dBov. Silence of one side while the other is
-- heard, for as long as `silent_s`, is a muted microphone, a dead agent, or somebody who listens: how loud it was tells
-- (digital silence is -127). Where the edge thinned its facts, shares are estimates and a short sound may be missed.
-- param from DateTime64(9, 'UTC') = now-1h : start of the window, inclusive, to the second
-- param to DateTime64(9, 'UTC') = now : end of the window, exclusive
-- param region Array(String) = : only these regions; empty for all
-- param session String = : only this call; empty for all
-- param silent_s UInt32 = 20 : a run of silent seconds this long counts as one-way silence
-- param one_way Bool = false : only sides with one-way silence
-- param limit UInt32 = 1000 : at most so many rows
-- column session_id uuid : the call
-- column region text : region of the edge
-- column side text : user or agent
-- column packets count : packets at the edge
-- column levels count : of them, with an audio level; 0 if the client does not send any
-- column silent_share ratio : packets at -60 dBov or below ÷ packets with a level; NULL without levels
-- column loudest_dbov dBov : loudest packet; NULL without levels
-- column longest_s s : longest run of silent seconds
-- column longest_from_ns ns since epoch : when it began; NULL if there is none
-- column longest_loudest_dbov dBov : loudest packet of that run; -127 is digital silence
-- column one_way flag : the longest run is at least silent_s long and the other side was heard in it
WITH
    seconds AS
    (
        SELECT
            p.session_id AS session_id,
            p.tap AS tap,
            p.second AS second,
            toString(any(p.region)) AS region,
            sum(p.packets) AS packets,
            sum(p.levels) AS levels,
            sum(p.silent) AS silent,
            max(p.level_dbov_max) AS loudest
        FROM sidetone.packets_1s AS p
        WHERE p.tap IN ('edge_up', 'edge_down')
            AND p.second >= {from:DateTime64(9, 'UTC')} AND p.second < {to:DateTime64(9, 'UTC')}
            AND (empty({region:Array(String)}) OR has({region:Array(String)}, p.region))
            AND ({session:String} = '' OR p.session_id = toUUIDOrZero({session:String}))
        GROUP BY p.session_id, p.tap, p.second
    ),
    -- A run ends with a sound, with a second of unknown level, or where no packets came for more than a second.
    marked AS
    (
        SELECT
            *,
            ifNull(loudest > -60, true) AS broken,
            ifNull(loudest > -60, false) AS heard,
            sum(broken OR toUInt32(second) > before + 2) OVER in_order AS run
        FROM
        (
            SELECT *, lagInFrame(toUInt32(second), 1, toUInt32(second)) OVER (
                PARTITION BY session_id, tap ORDER BY second ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
            ) AS before
            FROM seconds
        )
        WINDOW in_order AS (PARTITION BY session_id, tap ORDER BY second ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
    ),
    runs AS
    (
        SELECT session_id, tap, min(toUInt32(second)) AS start, max(toUInt32(second)) + 1 - start AS length_s, max(loudest) AS top
        FROM marked
        WHERE NOT broken
        GROUP BY session_id, tap, run
    ),
    longest AS
    (
        SELECT session_id, tap, argMax((start, length_s, top), (length_s, -toInt64(start))) AS one
        FROM runs
        GROUP BY session_id, tap
    ),
    sides AS
    (
        SELECT
            session_id, tap, any(region) AS region, sum(packets) AS packets, sum(levels) AS levels, sum(silent) AS silent,
            max(loudest) AS loudest, groupArrayIf(toUInt32(second), heard) AS heard_at
        FROM marked
        GROUP BY session_id, tap
    )
SELECT
    toString(s.session_id) AS session_id,
    s.region AS region,
    if(s.tap = 'edge_up', 'user', 'agent') AS side,
    toInt64(s.packets) AS packets,
    toInt64(s.levels) AS levels,
    if(s.levels > 0, s.silent / s.levels, NULL) AS silent_share,
    s.loudest AS loudest_dbov,
    ifNull(tupleElement(l.one, 2), 0) AS longest_s,
    if(longest_s > 0, tupleElement(l.one, 1) * 1000000000, NULL) AS longest_from_ns,
    if(longest_s > 0, tupleElement(l.one, 3), NULL) AS longest_loudest_dbov,
    longest_s >= {silent_s:UInt32} AND arrayExists(
        x -> x >= tupleElement(l.one, 1) AND x < tupleElement(l.one, 1) + longest_s, o.heard_at
    ) AS one_way
FROM sides AS s
LEFT JOIN longest AS l ON s.session_id = l.session_id AND s.tap = l.tap
LEFT JOIN sides AS o ON s.session_id = o.session_id AND s.tap != o.tap
WHERE NOT {one_way:Bool} OR one_way
ORDER BY session_id DESC, side
LIMIT {limit:UInt32}
