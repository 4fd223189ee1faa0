"""What each metric means: name, definition, unit, source, version. `docs/metrics.md` is made from this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    A changed definition is a new version, so that numbers of both can stand side by side: the facts allow computing
    either.

    Attributes:
        name: as columns and pages call it.
        group: heading under which the documentation lists it.
        definition: how it is computed from facts, and when it is NULL.
        unit: of the number.
        source: the standard or paper that it follows; `Sidetone` where the definition is our own.
        version: of the definition.

    """

    name: str
    group: str
    definition: str
    unit: str
    source: str
    version: int = 1


_LATENCY: Final = "Latency"
_NETWORK: Final = "Network"
_ERRORS: Final = "Turn-taking errors"
_COUNTS: Final = "Counts"

_METRICS: Final = (
    Metric("calls", _COUNTS, "Calls offered in the window.", "count", "Sidetone"),
    Metric(
        "turns",
        _COUNTS,
        "User turns: what the user says until it is answered, and the answer. A turn counts in the window in which its "
        "first word lies. Backchannels are no turns.",
        "count",
        "Sidetone",
    ),
    Metric(
        "response_latency",
        _LATENCY,
        "Agent's first voiced packet less the acoustic end of the user's speech, of the same turn and on one clock, "
        "at the relay. The acoustic end is the last one before the decision that led to the answer. Negative where "
        "the agent began first, and kept so. NULL where either is missing. Percentiles are elements of the window's "
        "own turns (never averaged, never interpolated); p99 on fewer than 100 turns is marked.",
        "ms",
        "Full-Duplex-Bench (arXiv 2503.04721), without its clipping to 0",
    ),
    Metric(
        "latency_coverage",
        _LATENCY,
        "Turns with a response latency ÷ turns. NULL without turns.",
        "ratio",
        "Sidetone",
    ),
    Metric(
        "listener_latency",
        _LATENCY,
        "What the caller waited, by its own ear: from the last voiced sample at its microphone to the first voiced "
        "sample of the answer that it played, both by its own clock, where the client tells (method `client`). Else "
        "an estimate: response latency + network up + network down + the client's receive buffer. Up is half of the "
        "least round trip within 15 s of the turn (the acoustic end is timed as if undelayed), down half of the "
        "median one and the codec's look-ahead of 6.5 ms (symmetric assumed): client to edge plus edge to "
        "transceiver, or else client to transceiver. The receive buffer is the growth of W3C jitterBufferDelay ÷ "
        "growth of jitterBufferEmittedCount, or else this answer's own wait. NULL if any part is unknown. Version 1 "
        "knew the estimate only, with half of the median round trip both ways, this answer's own wait first, and no "
        "look-ahead.",
        "ms",
        "W3C webrtc-stats; RFC 7845 §4.2; Sidetone",
        version=2,
    ),
    Metric(
        "clock_error",
        _LATENCY,
        "How wrong the comparison of the client's clock with the relay's may be: half of the least round trip among "
        "the client's pings on the data channel. The ways up and down that rest on it are wrong by this, in opposite "
        "directions, and by what the instruments at their ends differ: the relay's detector and the client's level "
        "meter may take moments for the end of speech that are tens of ms apart (a way up below 0 says so), and a "
        "browser's meters hear late. The listener's latency is not, for it is taken by one clock. NULL if the client "
        "did not compare.",
        "ms",
        "RFC 5905 §8 (offset and delay), the reply being immediate",
    ),
    Metric(
        "latency_parts",
        _LATENCY,
        "Parts of a turn's response: uplink jitter buffer (acoustic end to decision, less the silence that the "
        "decision waited for in media time), VAD hangover (to when the end of speech was known), endpoint wait (to "
        "the decision), request, model first audio, pacing (to the first voiced packet). They sum to the response "
        "latency; what no part covers is shown as unmeasured. A part that was not measured is NULL and drawn as a "
        "gap.",
        "ms",
        "Sidetone",
    ),
    Metric(
        "packet_loss",
        _NETWORK,
        "Σ lost ÷ (Σ packets - Σ duplicates + Σ lost) at the edge, from client to edge, where lost is what each "
        "arrival shows to be missing, taken back when it turns up. Windows add up. Losses after a stream's last "
        "packet cannot be seen. NULL without packets.",
        "ratio",
        "RFC 3550 A.1, A.3; duplicates apart",
    ),
    Metric(
        "downlink_loss",
        _NETWORK,
        "Growth of packetsLost ÷ growth of (packetsReceived + packetsLost) in the clients' inbound-rtp reports. NULL "
        "without reports.",
        "ratio",
        "W3C webrtc-stats",
    ),
    Metric(
        "jitter_mean",
        _NETWORK,
        "Mean of |D|, the change in transit time from packet to packet, at the edge. This is not RFC 3550's running J, "
        "which has no meaning over a window of many streams. NULL where unmeasured.",
        "ms",
        "RFC 3550 §6.4.1 (D)",
    ),
    Metric(
        "jitter_p95",
        _NETWORK,
        "95th percentile of |D| at the edge, from mergeable sketches with a relative error of at most 1 %. Where an "
        "edge thins its facts, each counts as often as it represents packets, so that the rank, too, is an estimate.",
        "ms",
        "RFC 3550 §6.4.1 (D); DDSketch",
    ),
    Metric(
        "packets_kept",
        _NETWORK,
        "Packet facts stored ÷ packets they represent; 1 where every packet was written. An edge whose policy is "
        "`sampled` writes all packets of a call from 2 s before to 5 s after a bad moment (a loss, a duplicate, a "
        "reordered packet, a stream's start, |D| of 20 ms or more), and from 6 s before to 5 s after a turn that may "
        "be going wrong (the agent yields or goes on, the user barges in, an end of turn is revoked, an answer fails, "
        "starves or is 2.5 s late), and elsewhere one, chosen at random, of up to ten of a stream within a second. "
        "Packets, losses, duplicates and reordered packets are exact for whole seconds; bytes, transit times and "
        "levels are unbiased estimates.",
        "ratio",
        "Sidetone",
    ),
    Metric(
        "leg_rtt",
        _NETWORK,
        "Round trip of one leg: client to edge and edge to transceiver by pairing STUN requests with their answers at "
        "the edge (a retransmitted request tells nothing: Karn); edge to transceiver by probes once a second, of no "
        "call; client to transceiver by STUN and RTCP reports at the transceiver. RTCP is encrypted beyond its first "
        "eight octets (RFC 3711 §3.4), so the edge cannot read reports.",
        "ms",
        "RFC 8489 §6; RFC 3550 §6.4.1",
    ),
    Metric(
        "silent_share",
        _NETWORK,
        "Packets with an audio level of -60 dBov or below ÷ packets with a level, at the edge, per side of a call. "
        "NULL if the sender tells no levels.",
        "ratio",
        "RFC 6464; -60 dBov is ours",
    ),
    Metric(
        "one_way_silence",
        _NETWORK,
        "One side sent packets, none above -60 dBov, for 20 s or more without a second's pause in them, and the other "
        "side was heard meanwhile: a muted microphone, a dead agent, or somebody who listens. Digital silence "
        "(-127 dBov) throughout is the first or the second.",
        "s; calls",
        "RFC 6464; 20 s is ours",
    ),
    Metric(
        "agent_cut_user",
        _ERRORS,
        "The agent began an answer while the user was speaking, or in a pause of at most 1.5 s after which the user "
        "went on within 1 s of the agent's onset. With hindsight of 1 s. A user who had been silent for longer "
        "before it spoke into the answer's first second broke in on it; version 1 called that a cut-in, too. "
        "Backchannels do not count.",
        "count; rate per turn",
        "Full-Duplex-Bench pause handling; 1 s; 1.5 s is ours",
        version=2,
    ),
    Metric(
        "late_response",
        _ERRORS,
        "Response latency above 2.5 s and below 5 s. Not counted where the application asked for the answer itself "
        "(`response_requested` with the reason `application`), since it alone knows when that was due; version 1 did "
        "not know of such applications.",
        "count; rate per turn",
        "Sidetone",
        version=2,
    ),
    Metric(
        "missed_response",
        _ERRORS,
        "After the user's words no answer began within 5 s, or the user spoke again, unanswered, after more than 2.5 "
        "s. Words that end while the agent is speaking are left to the barge-in rules. A call that ended sooner than "
        "5 s after the words tells nothing and is not counted. Nor are words of which the application makes what it "
        "wants (an `endpoint_candidate` or `endpoint_decided` with the reason `application` follows them); version 1 "
        "did not know of such applications.",
        "count; rate per turn",
        "Sidetone",
        version=2,
    ),
    Metric(
        "false_barge_in",
        _ERRORS,
        "The agent gave way, and all that the user said, from its onset over the agent until 2 s after the agent had"
        " stopped, lasts less than 1 s: a cough, or a backchannel by its length (without words, a short «stop» is "
        "taken for one). With hindsight of 2 s; a call that ended sooner tells nothing. Version 1 held 200 ms "
        "against what was said after the agent's end alone, and so missed every backchannel that outlasted the "
        "agent. Giving way to what the agent had cut off is none.",
        "count; rate per turn",
        "LiveKit's 2 s of silence; Full-Duplex-Bench's 1 s for backchannels",
        version=2,
    ),
    Metric(
        "missed_barge_in",
        _ERRORS,
        "The user spoke up for 200 ms or more into the agent's speech, neither as a backchannel nor after a cut-in, "
        "and the agent went on until the user had stopped or for 2 s. An agent that gave way within 2 s of the "
        "user's onset did not miss it, even if the user had just drawn breath. Right-censored: such cases have no "
        "stop latency and would bias its percentiles if dropped, so they are counted apart. Speech of 1 s or more is"
        " no backchannel, whatever the relay took it for (version 1 believed the relay, looked only beyond the "
        "answer's first second, and counted breaths). Not counted where the application lets the user interrupt "
        "nothing (`user_barged_in` with the reason `application`), which version 2 did not know of.",
        "count; rate per turn",
        "Full-Duplex-Bench v1.5 (arXiv 2507.23159)",
        version=3,
    ),
    Metric(
        "slow_yield",
        _ERRORS,
        "The user broke in as for missed_barge_in, and the agent gave way, but more than 1 s after the user's onset "
        "(stop latency, at the relay).",
        "count; rate per turn",
        "Full-Duplex-Bench v1.5 (stop latency); 1 s is ours",
    ),
    Metric(
        "talk_over",
        _ERRORS,
        "Both spoke for 0.5 s or more and the agent's speech did not end by giving way. Backchannels do not count; "
        "speech of 1 s or more is none (version 1 believed the relay).",
        "count; rate per turn",
        "Sidetone",
        version=2,
    ),
    Metric(
        "dead_air",
        _ERRORS,
        "Mutual silence of more than 3 s between utterances or before the call's end, charged to the side whose turn "
        "it was: the one that did not speak last. The overview counts the agent's. After words as in missed_response "
        "that the application makes what it wants of, it is nobody's turn (version 1 charged the agent).",
        "count; rate per turn",
        "Sidetone",
        version=2,
    ),
    Metric(
        "abandoned",
        _ERRORS,
        "The user hung up after waiting more than 2.5 s for an answer, or waited 15 s. A hang-up sooner is a goodbye. "
        "Not counted where the application decides on answers, as for dead_air (version 1 did).",
        "count; rate per turn",
        "LiveKit's user_away_timeout (15 s); 2.5 s is ours",
        version=2,
    ),
    Metric(
        "errors_per_turn",
        _ERRORS,
        "Turn-taking errors charged to the agent's side ÷ turns that began in the window. Kinds may overlap (a missed "
        "barge-in is often a talk-over), so the sum over kinds is not the number of bad turns. NULL without turns.",
        "ratio",
        "Sidetone",
    ),
)

CATALOGUE: Final[dict[str, Metric]] = {metric.name: metric for metric in _METRICS}
