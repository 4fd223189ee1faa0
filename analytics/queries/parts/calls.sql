    calls AS
    (
        SELECT s.session_id AS session_id, toString(any(s.region)) AS region, min(s.observed_ns) AS began_ns,
            any(coalesce(nullIf(s.attributes['client'], ''), s.attributes['user_agent'])) AS client
        FROM sidetone.sessions AS s
        WHERE s.step = 'offered'
            AND s.observed_ns >= {from:DateTime64(9, 'UTC')} AND s.observed_ns < {to:DateTime64(9, 'UTC')}
            AND (empty({region:Array(String)}) OR has({region:Array(String)}, s.region))
        GROUP BY s.session_id
    )
