from __future__ import annotations

from relay.edge import Limits
from relay.edge.pressure import Gauge, Pressure

MS = 1_000_000


def test_new_calls_give_way_before_telemetry_and_both_only_to_what_lasts() -> None:
    gauge = Gauge(Limits(refuse_behind_s=0.1, shed_behind_s=0.3))
    levels = [gauge.turned(behind=True, now_ns=ms * MS) for ms in (0, 99, 100, 299, 300, 5_000)]
    assert levels == [
        Pressure.NONE,
        Pressure.NONE,
        Pressure.REFUSE_CALLS,
        Pressure.REFUSE_CALLS,
        Pressure.SHED_TELEMETRY,
        Pressure.SHED_TELEMETRY,
    ]
    assert gauge.turned(behind=False, now_ns=5_001 * MS) is Pressure.NONE
    assert gauge.turned(behind=True, now_ns=5_002 * MS) is Pressure.NONE
