    -- What listeners reported lost (W3C inbound-rtp counters): the growth from each sample to the next counts in the
    -- window of the later one; counters start at 0.
    downlink AS
    (
        SELECT session_id, region, observed_ns, lost_now - lost_before AS lost, received_now - received_before AS received
        FROM
        (
            SELECT
                session_id,
                toString(region) AS region,
                observed_ns,
                values['packetsLost'] AS lost_now,
                values['packetsReceived'] AS received_now,
                lagInFrame(values['packetsLost'], 1, 0.) OVER samples AS lost_before,
                lagInFrame(values['packetsReceived'], 1, 0.) OVER samples AS received_before
            FROM sidetone.clients
            WHERE kind = 'inbound-rtp' AND mapContains(values, 'packetsLost') AND mapContains(values, 'packetsReceived')
                AND observed_ns >= {from:DateTime64(9, 'UTC')} - toIntervalMinute(5)
                AND observed_ns < {to:DateTime64(9, 'UTC')}
                AND (empty({region:Array(String)}) OR has({region:Array(String)}, region))
            WINDOW samples AS (
                PARTITION BY session_id, stream ORDER BY observed_ns ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
            )
        )
        WHERE observed_ns >= {from:DateTime64(9, 'UTC')}
    )
