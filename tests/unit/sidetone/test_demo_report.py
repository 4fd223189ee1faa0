from typing import Any

import pytest

from sidetone.demo.report import conclude


def account(**changes: Any) -> dict[str, Any]:
    way = {"sent": 9, "lost": 2, "lost_unseen": 0, "measured_lost": 2, "streams": 1, "equal": True}
    fact = {"emitted": 3, "accounted": 3, "stored": 3, "distinct": 3, "missing_chunks": 0, "shed": {}}
    return {
        "facts": {"packet": fact, "turn": fact | changes.get("fact", {})},
        "injected": {"eu-west": {"uplink": way, "downlink": way | changes.get("downlink", {})}},
        "failed_calls": changes.get("failed_calls", []),
        "deaths": changes.get("deaths", []),
    }


def test_an_account_without_a_shortfall_is_ok() -> None:
    result = conclude(account())
    assert (result["ok"], result["shortfalls"]) == (True, [])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"fact": {"stored": 2, "distinct": 2}}, "turn: 3 facts emitted, 3 by the producers' own count, 2 stored"),
        ({"fact": {"stored": 4}}, "4 stored, 3 of them distinct"),
        ({"fact": {"shed": {"spool full": 5}}}, "5 shed"),
        ({"fact": {"missing_chunks": 1}}, "1 chunks missing"),
        ({"downlink": {"measured_lost": 1, "equal": False}}, "eu-west, downlink: the network lost 2 packets, 1 were"),
        ({"failed_calls": [{"call": 4, "error": "not connected"}]}, "call 4 failed: not connected"),
        ({"deaths": ["collector (did not end cleanly)"]}, "collector (did not end cleanly)"),
    ],
)
def test_a_shortfall_is_named(changes: dict[str, Any], says: str) -> None:
    result = conclude(account(**changes))
    assert result["ok"] is False
    (said,) = result["shortfalls"]
    assert says in said
