"""Many calls straight into a store, made by the store itself from a number: for questions at size.

Each call lasts two minutes: 50 packets a second at both taps of an edge, with 1 % loss and some milliseconds of jitter;
ten turns of twelve seconds, of which the fifth is interrupted and the seventh answered late; round trips once a second
and a client's report every five.
"""

from __future__ import annotations

from typing import Final

from clickhouse_connect.driver.client import Client

CALL_S: Final = 120
PACKETS: Final = 2 * 50 * CALL_S
"""Of one call, those lost included."""

_CALL: Final = """
    leftPad(hex(toUInt64({start_ms} + call * {every_ms})), 12, '0') AS at_hex,
    leftPad(hex(sipHash64(call)), 16, '0') AS random_hex,
    toUUID(concat(
        substring(at_hex, 1, 8), '-', substring(at_hex, 9, 4), '-7', substring(random_hex, 1, 3), '-8',
        substring(random_hex, 4, 3), '-7', substring(random_hex, 6, 11)
    )) AS session_id,
    ['eu-west', 'us-east', 'ap-south'][call % 3 + 1] AS region,
    concat('edge-', region) AS host_id,
    fromUnixTimestamp64Milli(toInt64({start_ms} + call * {every_ms}), 'UTC') AS began
"""

_STATEMENTS: Final = (
    """
    INSERT INTO sidetone.packets
        (session_id, region, host_id, observed_ns, tap, stream, ext_seq, rtp_ts, payload_type, marker, size_bytes,
        audio_level_dbov, voice_activity, transit_delta_us, newly_lost, reordered, duplicate)
    SELECT
        session_id, region, host_id,
        toDateTime64(began, 9, 'UTC') + toIntervalMicrosecond(seq * 20000 + cityHash64(number) % 9000),
        if(down, 'edge_down', 'edge_up'), toUInt32(call * 2 + toUInt8(down)), seq, toUInt32(seq * 960), 111, seq = 0,
        80 + cityHash64(number, 1) % 40, if(seq % 600 < 300, -30, -90), seq % 600 < 300,
        if(seq = 0, NULL, toInt32(cityHash64(number, 2) % 9000) - 4500), was_lost, false, false
    FROM
    (
        SELECT
            number, intDiv(number, {packets}) AS call, intDiv(number, {half}) % 2 = 1 AS down,
            number % {half} AS seq, cityHash64(number, 3) % 100 = 0 AS lost,
            seq > 0 AND cityHash64(number - 1, 3) % 100 = 0 AS was_lost, {call}
        FROM numbers({calls} * {packets})
    )
    WHERE NOT lost
    """,
    """
    INSERT INTO sidetone.turns
        (session_id, region, host_id, observed_ns, mono_ns, turn_id, kind, actor, at_ns, silence_ms, reason)
    SELECT
        session_id, region, 'transceiver', at, 0, turn, fact.1, fact.2, at, if(fact.1 = 'endpoint_decided', 500, NULL),
        if(fact.1 = 'agent_audio_stopped', 'completed', NULL)
    FROM
    (
        SELECT
            intDiv(number, 10) AS call, number % 10 + 1 AS turn, {call},
            if(turn = 7, 3000, cityHash64(number) % 600) AS thought,
            arrayJoin(arrayConcat(
                [('user_speech_started', 'user', 500), ('user_speech_stopped', 'user', 3000),
                ('endpoint_decided', 'system', 3500), ('response_requested', 'agent', 3501),
                ('model_first_token', 'agent', 3600 + thought), ('model_first_audio', 'agent', 3650 + thought),
                ('agent_audio_started', 'agent', 3670 + thought), ('agent_audio_stopped', 'agent', 11000)],
                if(turn = 5, [('user_speech_started', 'user', 8000), ('user_speech_stopped', 'user', 9500)], [])
            )) AS fact,
            toDateTime64(began, 9, 'UTC') + toIntervalMillisecond((turn - 1) * 12000 + fact.3) AS at
        FROM numbers({calls} * 10)
    )
    """,
    """
    INSERT INTO sidetone.sessions (session_id, region, host_id, observed_ns, step, reason, attributes)
    SELECT
        session_id, region, 'transceiver', toDateTime64(began, 9, 'UTC') + toIntervalMillisecond(step.2), step.1,
        if(step.1 = 'closed', 'hangup', NULL),
        if(step.1 = 'offered', map('client', 'bench'), if(step.1 = 'closed', map('who', 'client'), map()))
    FROM
    (
        SELECT number AS call, {call}, arrayJoin([('offered', 0), ('ice_connected', 60), ('dtls_connected', 120),
            ('first_packet', 140), ('first_frame', 160), ('closed', 120500)]) AS step
        FROM numbers({calls})
    )
    """,
    """
    INSERT INTO sidetone.legs (session_id, region, host_id, observed_ns, leg, method, rtt_us)
    SELECT
        session_id, region, host_id, toDateTime64(began, 9, 'UTC') + toIntervalSecond(second), leg, 'stun',
        if(leg = 'client_edge', 30000, 5000) + cityHash64(number) % 4000
    FROM
    (
        SELECT number, intDiv(number, 240) AS call, intDiv(number % 240, 2) AS second,
            if(number % 2 = 0, 'client_edge', 'edge_transceiver') AS leg, {call}
        FROM numbers({calls} * 240)
    )
    """,
    """
    INSERT INTO sidetone.clients (session_id, region, host_id, observed_ns, kind, stream, values)
    SELECT
        session_id, region, 'transceiver', toDateTime64(began, 9, 'UTC') + toIntervalSecond(n * 5), 'inbound-rtp', 1,
        map('packetsReceived', n * 250., 'packetsLost', n * 2., 'jitterBufferDelay', n * 9600.,
            'jitterBufferEmittedCount', n * 240000.)
    FROM (SELECT intDiv(number, 24) AS call, number % 24 + 1 AS n, {call} FROM numbers({calls} * 24))
    """,
)


def fill(client: Client, calls: int, *, start_ms: int, span_s: int) -> None:
    """Put calls into a store whose tables stand, their beginnings spread evenly over `span_s` from `start_ms`."""
    every_ms = max(1, (span_s - CALL_S) * 1000 // calls)
    call = _CALL.format(start_ms=start_ms, every_ms=every_ms)
    settings = {"max_insert_threads": 1, "max_threads": 1, "max_insert_block_size": 1_000_000}
    for statement in _STATEMENTS:
        client.command(statement.format(call=call, calls=calls, packets=PACKETS, half=PACKETS // 2), settings=settings)
