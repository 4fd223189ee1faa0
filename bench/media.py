"""One stream of real Opus packets over spoiled networks into our receive path and into stock aiortc's, in virtual time.

For every network: ticks concealed, repaired and starved, packets thrown away, the delay that playout added (how much
later a frame was played than its packet could have been at best), how long a stall's delay lasted, and speech quality
as PESQ sees it (ITU-T P.862.2, wide band): clean sound against what was played, in pieces of some eight seconds, mean.
Where stock sounds better because it waits longer, ours is run once more with a fixed delay as long as stock's.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Final

import numpy as np
import numpy.typing as npt
import pesq

from bench.harness import arguments, report
from bench.listeners import TICK_NS, Listener, Ours, Packet, Pcm, Stock
from relay import speech
from relay.opus import FRAME_SAMPLES, Encoder
from relay.transceiver.decimate import Decimator
from voice.jitterbuffer import JitterBufferConfig
from voice.link import Link, LinkProfile, Series
from voice.losses import GilbertElliott
from voice.netem import PROFILES

PIECES: Final = 6
"""Of speech in a stream."""

PIECE_TICKS: Final = 400
PAUSE_TICKS: Final = 30
TAIL_TICKS: Final = 50
"""A second more of what was played, so that delay cuts nothing off."""

PHASE_NS: Final = 7_000_000
"""Between the sender's clock and the listener's."""

_RATE: Final = 16_000
_MS: Final = 1_000_000
_TURN_AFTER_MS: Final = 400.0
_STALL_AT_MS: Final = 20_000.0
_STALL: Final = Series(
    step_ms=20.0, extra_ms=(0.0,) * 1000 + tuple(300.0 - 20.0 * step for step in range(15)) + (0.0,) * 4000
)
_GENTLE: Final = LinkProfile(delay_ms=30.0, jitter="gamma", jitter_ms=10.0)
_HEAVY: Final = LinkProfile(delay_ms=30.0, jitter="pareto", jitter_ms=15.0, jitter_shape=2.2, jitter_max_ms=300.0)


@dataclass(frozen=True, slots=True)
class Network:
    """A condition under test."""

    name: str
    link: LinkProfile


def networks() -> list[Network]:
    """All conditions: losses by jitter, a stall, and the named profiles' uplinks."""
    losses = {
        "0": None,
        "1_random": GilbertElliott.from_loss(0.01, 1 / 0.99),
        "5_random": GilbertElliott.from_loss(0.05, 1 / 0.95),
        "1_bursty": GilbertElliott.from_loss(0.01, 3.0),
        "5_bursty": GilbertElliott.from_loss(0.05, 3.0),
    }
    jitters = {"still": LinkProfile(delay_ms=30.0), "gentle": _GENTLE, "heavy": _HEAVY}
    found = [
        Network(f"loss_{loss}_{jitter}", replace(link, loss=model))
        for jitter, link in jitters.items()
        for loss, model in losses.items()
    ]
    found.append(Network("stall_300ms", LinkProfile(delay_ms=30.0, series=_STALL)))
    found += [Network(name, profile.up) for name, profile in PROFILES.items() if name != "perfect"]
    return found


class Stream:
    """What is said, and its packets: pieces of speech with pauses of 0.6 s between clips and pieces."""

    def __init__(self, pieces: int = PIECES, *, bitrate_bps: int = 32_000) -> None:
        names = cycle(name for name in speech.names() if name.startswith(("user_", "agent_")))
        self.starts: list[int] = []
        parts: list[Pcm] = []
        ticks = 0
        for _ in range(pieces):
            self.starts.append(ticks)
            piece = _piece(names)
            parts.append(piece)
            ticks += len(piece) // FRAME_SAMPLES
        self.pcm = np.concatenate(parts)
        self.ticks = ticks
        encoder = Encoder(bitrate_bps)
        self.payloads = [
            encoder.encode(self.pcm[at * FRAME_SAMPLES : (at + 1) * FRAME_SAMPLES]) for at in range(self.ticks)
        ]

    def over(self, link: Link) -> list[Packet]:
        """The packets in order of arrival."""
        arrivals = [
            Packet(seq, seq * FRAME_SAMPLES, payload, at_ns)
            for seq, payload in enumerate(self.payloads)
            for at_ns in link.send(seq * TICK_NS, len(payload) + 54)
        ]
        return sorted(arrivals, key=lambda packet: packet.arrival_ns)

    def piece(self, index: int) -> tuple[int, int]:
        """First tick of a piece, and the one after its last."""
        ends = [*self.starts[1:], self.ticks]
        return self.starts[index], ends[index]


def _piece(names: Iterator[str]) -> Pcm:
    pause = np.zeros(PAUSE_TICKS * FRAME_SAMPLES, np.int16)
    parts: list[Pcm] = [pause]
    while sum(map(len, parts)) < PIECE_TICKS * FRAME_SAMPLES:
        parts += [speech.load(next(names)).pcm, pause]
    pcm = np.concatenate(parts)
    return np.pad(pcm, (0, -len(pcm) % FRAME_SAMPLES))


def play(listener: Listener, packets: list[Packet], ticks: int) -> Listener:
    """Give a listener everything at its time."""
    at = 0
    for tick in range(ticks):
        now_ns = tick * TICK_NS + PHASE_NS
        while at < len(packets) and packets[at].arrival_ns <= now_ns:
            listener.arrive(packets[at])
            at += 1
        listener.tick(now_ns)
    listener.end()
    return listener


def figures(listener: Listener, stream: Stream, network: Network, packets: list[Packet]) -> dict[str, object]:
    """What became of the stream in one listener."""
    told = listener.told
    delays = [delay - network.link.delay_ms for _, delay in told.delay_ms]
    return {
        "pesq": quality(stream, told.pcm),
        "played": told.kinds["played"],
        "concealed": told.kinds["concealed"],
        "fec_recovered": told.kinds["fec_recovered"],
        "starved": told.kinds["starved"],
        "discarded": told.discarded,
        "lost": len(stream.payloads) - len({packet.seq for packet in packets}),
        "delay_added_ms_p50": statistics.median(delays),
        "delay_added_ms_p95": float(np.percentile(delays, 95)),
        "delay_added_ms_turn": turn_delay_ms(stream, listener) - network.link.delay_ms,
        "delay_added_ms_end": statistics.median(delays[-100:]),
    }


def turn_delay_ms(stream: Stream, listener: Listener) -> float:
    """Delay once a pause has lasted 400 ms, which is when turns are taken: the median over the pieces' ends."""
    found = []
    for index in range(len(stream.starts)):
        pause_ms = (stream.piece(index)[1] - PAUSE_TICKS) * 20.0 + _TURN_AFTER_MS
        found.append([delay for at_ms, delay in listener.told.delay_ms if at_ms - delay <= pause_ms][-1])
    return statistics.median(found)


def quality(stream: Stream, played: list[Pcm]) -> float:
    """Mean PESQ (MOS-LQO, 1.0 to 4.64) over the pieces of speech."""
    reference = _narrowed(stream.pcm)
    heard = _narrowed(np.concatenate(played))
    scores = []
    per_tick = _RATE // 50
    for index in range(len(stream.starts)):
        first, last = (tick * per_tick for tick in stream.piece(index))
        degraded = heard[first : last + TAIL_TICKS * per_tick]
        scores.append(_score(reference[first:last], degraded))
    return statistics.fmean(scores)


def _score(reference: npt.NDArray[np.int16], degraded: npt.NDArray[np.int16]) -> float:
    try:
        return float(pesq.pesq(_RATE, reference, degraded, "wb"))
    except pesq.NoUtterancesError:
        return 1.0  # nothing of it was played: the scale's lowest


def _narrowed(pcm: Pcm) -> Pcm:
    decimate = Decimator()
    return np.concatenate(
        [decimate(pcm[at : at + FRAME_SAMPLES]) for at in range(0, len(pcm) - FRAME_SAMPLES + 1, FRAME_SAMPLES)]
    )


def recovery_ms(listener: Listener, *, stall_ms: float = _STALL_AT_MS, within_ms: float = 30.0) -> float | None:
    """From a stall's end until the delay stays within `within_ms` of what it was before; None if it never does."""
    before = statistics.median(delay for at, delay in listener.told.delay_ms if stall_ms - 5_000 < at < stall_ms)
    over = [at for at, delay in listener.told.delay_ms if at > stall_ms + 300 and delay > before + within_ms]
    last = listener.told.delay_ms[-1][0]
    if over and last - over[-1] < 1_000:
        return None
    return max(0.0, over[-1] - stall_ms - 300) if over else 0.0


def compare(network: Network, stream: Stream, seed: int) -> dict[str, dict[str, object]]:
    """Run both listeners over the same packets."""
    packets = stream.over(Link(network.link, seed))
    ticks = stream.ticks + TAIL_TICKS
    found: dict[str, dict[str, object]] = {}
    for name, listener in (("ours", Ours()), ("stock", Stock())):
        play(listener, packets, ticks)
        found[name] = figures(listener, stream, network, packets)
        if network.link.series is _STALL:
            found[name]["recovery_ms"] = recovery_ms(listener)
    if _number(found["ours"]["pesq"]) < _number(found["stock"]["pesq"]):
        patient = Ours(_held_at(_number(found["stock"]["delay_added_ms_p50"])))
        play(patient, packets, ticks)
        found["ours_at_stocks_delay"] = figures(patient, stream, network, packets)
    return found


def _held_at(delay_ms: float) -> JitterBufferConfig:
    """Return settings under which the delay does not follow the network."""
    return JitterBufferConfig(start_ms=delay_ms, min_ms=delay_ms, max_ms=delay_ms)


def table(found: Mapping[str, Mapping[str, Mapping[str, object]]]) -> str:
    """The figures as a Markdown table, ours / stock in each cell."""
    names = ("pesq", "concealed", "fec_recovered", "starved", "discarded")
    delays = ("delay_added_ms_p50", "delay_added_ms_p95", "delay_added_ms_turn")
    lines = ["| network | lost | " + " | ".join(names + delays) + " |", "|---" * (len(names + delays) + 2) + "|"]
    for network, sides in found.items():
        ours, stock = sides["ours"], sides["stock"]
        cells = [f"{_cell(ours[name])} / {_cell(stock[name])}" for name in names + delays]
        lines.append(f"| {network} | {ours['lost']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) and value < 10 else f"{value:.0f}"


def _number(value: object) -> float:
    if not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no figure")
    return float(value)


def main() -> None:
    """Print both sides' figures for every network, and where ours gains least."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--table", action="store_true", help="print a Markdown table instead")
    parser.add_argument("--only", default="", help="networks whose name contains this")
    options = parser.parse_args()
    stream = Stream()
    found = {network.name: compare(network, stream, seed=11) for network in networks() if options.only in network.name}
    if options.table:
        print(table(found))
        return
    gains = {name: _number(sides["ours"]["pesq"]) - _number(sides["stock"]["pesq"]) for name, sides in found.items()}
    worst = min(gains, key=lambda name: gains[name])
    report(
        {
            "packets": len(stream.payloads),
            "pesq_gain_least": gains[worst],
            "pesq_gain_least_at": worst,
            "pesq_gain_mean": statistics.fmean(gains.values()),
            "networks": found,
        },
        options.json,
    )


if __name__ == "__main__":
    main()
