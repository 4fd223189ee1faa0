from __future__ import annotations

import pytest

from relay.caller.network import NetworkError
from relay.caller.sdp import edge_address, through, unreachable

ANSWER = """v=0
m=audio 9 UDP/TLS/RTP/SAVPF 96
a=ice-ufrag:abcd
a=candidate:1 2 udp 2130706431 127.0.0.1 4001 typ host
a=candidate:1 1 udp 2130706431 127.0.0.1 4000 typ host
a=candidate:2 1 udp 1 127.0.0.1 4002 typ host generation 0
a=end-of-candidates
m=application 9 UDP/DTLS/SCTP webrtc-datachannel
a=candidate:1 1 UDP 2130706431 127.0.0.1 4000 typ host
a=end-of-candidates
""".replace("\n", "\r\n")


def test_the_edge_is_the_first_host_candidate_for_rtp() -> None:
    assert edge_address(ANSWER) == ("127.0.0.1", 4000)


def test_the_network_takes_the_edges_place_in_every_section() -> None:
    changed = through(ANSWER, ("127.0.0.1", 5555))
    assert edge_address(changed) == ("127.0.0.1", 5555)
    assert changed.count("a=candidate:") == 2
    assert "400" not in changed
    assert changed.splitlines()[:3] == ANSWER.splitlines()[:3]
    assert changed.count("a=end-of-candidates") == 2


def test_the_offer_names_no_address_of_the_callers() -> None:
    hidden = unreachable(ANSWER)
    assert "127.0.0.1" not in hidden
    assert "end-of-candidates" not in hidden
    assert hidden.count("m=") == 2


@pytest.mark.parametrize(
    ("candidate", "named"),
    [
        ("a=candidate:1 1 udp 1 192.0.2.7 4000 typ host", "192.0.2.7:4000"),
        ("a=candidate:1 1 udp 1 8b1f.local 4000 typ host", "8b1f.local:4000"),
        ("a=candidate:1 1 udp 1 127.0.0.1 4000 typ relay", "no UDP host candidate"),
        ("a=candidate:1 1 tcp 1 127.0.0.1 4000 typ host", "no UDP host candidate"),
        ("a=mid:0", "no UDP host candidate"),
    ],
)
def test_an_edge_elsewhere_is_refused_by_name(candidate: str, named: str) -> None:
    with pytest.raises(NetworkError, match=named):
        edge_address(f"v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 96\r\n{candidate}\r\n")
