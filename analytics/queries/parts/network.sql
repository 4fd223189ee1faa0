    -- Rollup rows of the window: whole minutes from the minute rollup, the ragged edges from the second's, so that any
    -- window is exact to the second and cheap. Series whose buckets split minutes read seconds only.
    if(bucket_s % 60 = 0, toStartOfMinute({from:DateTime64(9, 'UTC')} + toIntervalNanosecond(59999999999)), {to:DateTime64(9, 'UTC')})
        AS minutes_from,
    toStartOfMinute({to:DateTime64(9, 'UTC')}) AS minutes_to,
    network_rows AS
    (
        SELECT
            toString(region) AS region, toString(tap) AS tap, minute AS at,
            packets, kept, bytes, lost, duplicates, reordered, transit_abs_us_sum, transit_count, transit_abs_us_dd
        FROM sidetone.region_1m
        WHERE minute >= minutes_from AND minute < minutes_to
            AND (empty({region:Array(String)}) OR has({region:Array(String)}, region))
        UNION ALL
        SELECT
            toString(region) AS region, toString(tap) AS tap, second AS at,
            packets, kept, bytes, lost, duplicates, reordered, transit_abs_us_sum, transit_count, transit_abs_us_dd
        FROM sidetone.region_1s
        WHERE second >= {from:DateTime64(9, 'UTC')} AND second < {to:DateTime64(9, 'UTC')}
            AND (minutes_from >= minutes_to OR second < minutes_from OR second >= minutes_to)
            AND (empty({region:Array(String)}) OR has({region:Array(String)}, region))
    )
