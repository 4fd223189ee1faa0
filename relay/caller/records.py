"""What a caller says about a call: its utterances, the answers it heard, and what its network did to the packets.

All times are wall-clock nanoseconds (UTC) of the caller's host.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Utterance:
    """One thing the caller said.

    Attributes:
        clip: name of the clip.
        kind: `normal`, `barge-in` (while the agent was audible), `talk-over` (likewise, and goes on), `backchannel`
            (encourages, wants no answer) or `hesitation` (a filler; more is to come).
        start_ns: when the first voiced sample was captured.
        end_ns: when the last voiced sample was captured. A sample leaves in the packet that closes its 20 ms frame,
            so this is that packet's sending time less the rest of the frame; equal when speech ends with the frame.
        spans: voiced stretches (start, end) parted by pauses of at least `relay.caller.phrases.PAUSE_MS`; the last
            ends at `end_ns`.
        complete: false if the call ended before the clip did.

    """

    clip: str
    kind: str
    start_ns: int
    end_ns: int
    spans: list[tuple[int, int]] = field(default_factory=list)
    complete: bool = True


@dataclass(slots=True)
class Answer:
    """One stretch of the agent's speech, as it came out of the caller's earpiece.

    Attributes:
        heard_start_ns: when the first voiced sample was played (arrival of its packet plus the playout delay).
        heard_end_ns: when the last voiced sample was played; None if the call ended before the agent did.
        kind: `normal`; `cut-in`: the caller was in an utterance or in a pause within one; `barge-in`: answers an
            utterance that broke in on the agent; `talk-over`, `backchannel`, `hesitation`: follows one of these.
        utterance: index of the utterance it follows in the call's list; None if the agent spoke first.
        user_end_ns: end of the last voiced span that had ended when the answer was heard; None if there was none.

    """

    heard_start_ns: int
    heard_end_ns: int | None
    kind: str
    utterance: int | None
    user_end_ns: int | None


@dataclass(slots=True)
class StreamInjected:
    """What the impaired network did to one RTP stream in one direction, in packets.

    `sent = delivered + lost_seen + lost_leading + lost_trailing`. A packet was delivered if one copy of it was handed
    to the receiver's socket.

    Attributes:
        ssrc: synchronisation source.
        sent: distinct packets that the sender put on the network.
        delivered: of those, the ones that arrived at least once.
        duplicates: further copies that arrived.
        lost_seen: lost between the first and the last arrival, which is what the receiver can measure.
        lost_leading: lost before the first arrival in sequence order: no receiver can know of them.
        lost_trailing: lost after the last arrival in sequence order: likewise.

    """

    ssrc: int
    sent: int = 0
    delivered: int = 0
    duplicates: int = 0
    lost_seen: int = 0
    lost_leading: int = 0
    lost_trailing: int = 0


@dataclass(slots=True)
class DirectionInjected:
    """What the impaired network did in one direction.

    Attributes:
        streams: RTP, by stream.
        other: datagrams that are not RTP, by kind (`stun`, `dtls`, `rtcp`, `unknown`): sent and dropped.
        overflowed: datagrams of any kind refused because the queue was full; RTP among them counts as lost too.

    """

    streams: list[StreamInjected] = field(default_factory=list)
    other: dict[str, dict[str, int]] = field(default_factory=dict)
    overflowed: int = 0


@dataclass(slots=True)
class Received:
    """What the caller's receiver made of one stream from the agent.

    Attributes:
        ssrc: synchronisation source.
        packets: packets received, duplicates excluded.
        lost: RFC 3550 A.3, from extended sequence numbers; can be negative.
        duplicates: packets received more than once.
        jitter_s: RFC 3550 A.8, seconds.

    """

    ssrc: int
    packets: int
    lost: int
    duplicates: int
    jitter_s: float
