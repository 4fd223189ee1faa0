"""A receive buffer for voice: packets in as they come, what to decode for one 20 ms tick out at a time.

It keeps a line in RTP time up to which everything has been handed out. Every tick takes the packet that begins there,
or fills what is missing, and the line moves on: a lost packet costs its own length and no delay. Three things differ
from a plain queue:

- **Late is not lost.** While nothing is there, ticks are filled and the line moves on. If the packet comes after all,
  and nothing after it was played, the line goes back to it: the delay grows by what was filled and no word is missing.
- **Delay follows a target.** How far the line runs behind the earliest possible arrival follows `target_ms`, a quantile
  of recent packets' delay (see `delays`) and, after losses that redundancy could repair, one packet more, so that the
  next one is there in time to repair with. In pauses a whole tick is left out or put in; in speech single pitch periods
  (see `stretch`), and less only when far above the target. Where long delays come back (see `peaks`), the target is
  theirs while somebody speaks, reached before the first word, and the quantile in pauses, when turns are taken.
- **A gap is not a loss.** Where sequence numbers go on and timestamps leap, nothing was sent (RFC 7587 §3.1.3): that is
  silence. It is silence, too, if packets stay away after one that the sender's encoder did not take for voice.

Packets may last 2.5 to 120 ms. Of payloads it reads the length, the redundancy flag and the voice flag.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from voice import opus
from voice.delays import Delays
from voice.peaks import Peaks

_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
_TS_MOD: Final = 1 << 32
_HALF_TS: Final = 1 << 31
_RECENT: Final = 128  # numbers that were in the buffer, remembered to tell a duplicate from a late packet
_LATE_RUN: Final = 10  # so many late packets in a row, over
_LATE_RUN_NS: Final = 200 * _MS  # so long (a stall that ends delivers at once): the sender's time line has moved
_GRAIN_MS: Final = 2.5  # all lengths that Opus knows are multiples of it
_STRETCH_MS: Final = 15.0  # `stretch` takes out as much at most

PlayoutKind = Literal["played", "concealed", "fec_recovered", "discarded_late", "silence"]
Inserted = Literal["queued", "discarded_late", "duplicate", "overflow"]
Change = Literal["none", "cut", "shorten", "lengthen"]

_SEVERITY: Final[dict[PlayoutKind, int]] = {"played": 0, "silence": 1, "fec_recovered": 2, "concealed": 3}


@dataclass(frozen=True, slots=True)
class JitterBufferConfig:
    """Settings.

    Attributes:
        clock_rate: RTP clock in Hz.
        frame_ms: one tick.
        start_ms: target before anything is known.
        min_ms: lowest target.
        max_ms: highest target.
        speech_max_ms: highest while somebody speaks.
        pause_ms: so long without voice, and nobody speaks.
        quantile: share of packets that shall be in time.
        forget: weight of the past in the delay statistics, per packet.
        conceal_ms: with nothing in the buffer, conceal this long, then call it silence.
        capacity: packets held at most.
        adapt_ms: shortest time between two changes of the delay while somebody speaks; none is kept when it is
            `urgent_ms` off.
        far_ms: in speech, time is taken out only if the delay is so far above the target.
        urgent_ms: see `adapt_ms`.
        stall_ms: a late packet is waited for as long as the delay does not grow beyond this.
        repair_ms: after a loss that redundancy could have repaired, room is kept for the next so long.
        resync_ms: a time line further off than this is begun anew.

    """

    clock_rate: int = 48_000
    frame_ms: float = 20.0
    start_ms: float = 40.0
    min_ms: float = 20.0
    max_ms: float = 240.0
    speech_max_ms: float = 320.0
    pause_ms: float = 60.0
    quantile: float = 0.98
    forget: float = 0.998
    conceal_ms: float = 100.0
    capacity: int = 100
    adapt_ms: float = 60.0
    far_ms: float = 150.0
    urgent_ms: float = 300.0
    stall_ms: float = 500.0
    repair_ms: float = 10_000.0
    resync_ms: float = 1000.0


class Piece(NamedTuple):
    """Something to decode.

    Attributes:
        kind: `packet`; `fec`: from the redundancy in the next packet; `conceal`; `silence`: zeros.
        payload: to decode it from, if `packet` or `fec`.
        samples: how many it makes, at the clock rate.
        skip: of them are not to be played, from the first on.
        follows: nothing is missing between the packet and the one decoded before it.

    """

    kind: Literal["packet", "fec", "conceal", "silence"]
    payload: bytes
    samples: int
    skip: int = 0
    follows: bool = False


class Playout(NamedTuple):
    """One tick.

    Attributes:
        kind: as the `frame` fact names it; `discarded_late` is never a tick's kind here but `insert`'s answer.
        pieces: to decode in order, behind what is held.
        rtp_ts: the tick's RTP timestamp; None before the first packet and for a tick that was put in.
        change: `cut` out as many milliseconds as a tick has; `shorten` or `lengthen` by one period.

    """

    kind: PlayoutKind
    pieces: tuple[Piece, ...]
    rtp_ts: int | None
    change: Change = "none"


@dataclass(slots=True)
class Counts:
    """Ticks by kind (`played_ticks` … `silence`), and what became of packets, since the start.

    At any time: packets given to `insert` = `played` + `discarded_late` + `discarded` + `duplicates` + `overflow` +
    packets in the buffer.
    """

    played_ticks: int = 0
    concealed: int = 0
    fec_recovered: int = 0
    silence: int = 0
    played: int = 0
    discarded_late: int = 0
    discarded: int = 0
    """Given up although they were in time: the line had to leap."""
    duplicates: int = 0
    overflow: int = 0
    resyncs: int = 0
    changed: Counter[str] = field(default_factory=Counter)
    """Of the delay: `cut`, `insert`, `shorten`, `lengthen`."""


class _Held(NamedTuple):
    """A packet in the buffer. `ts` is unwrapped."""

    ts: int
    seq: int
    payload: bytes
    samples: int
    arrival_ns: int


class JitterBuffer:
    """Receive buffer of one stream. Never blocks, holds at most `capacity` packets."""

    def __init__(self, config: JitterBufferConfig | None = None) -> None:
        self.config = config or JitterBufferConfig()
        self.counts = Counts()
        self.waited_ns: int | None = None
        """How long the packet played last had waited for its tick; None before the first."""
        self._frame_ts = round(self.config.clock_rate * self.config.frame_ms / 1000)
        self._grain_ts = round(self.config.clock_rate * _GRAIN_MS / 1000)
        self._frame_ns = round(self.config.frame_ms * _MS)
        self._delays = self._new_delays()
        self._peaks = Peaks()
        self._speaking = False
        self._opening = False  # voice is next, and the delay is still that of a pause
        self._quiet_ms = 0.0
        self._packets: list[_Held] = []
        self._recent: dict[int, None] = {}  # in order of arrival
        self._last_ts: int | None = None  # unwrapped RTP time of the last packet inserted
        self._next_ts: int | None = None  # the line; None until playout begins
        self._played_ts = 0  # end of the last packet played
        self._last_seq: int | None = None  # its number
        self._active = False  # its voice flag
        self._filled_ts = 0  # made up since then
        self._kind: PlayoutKind = "silence"
        self._adapted_ns: int | None = None
        self._repair_until_ns: int | None = None
        self._repair_ms = 0.0
        self._late_run = 0
        self._late_since_ns = 0
        self._delay_ns = 0

    @property
    def buffer_ms(self) -> float:
        """Audio waiting in the buffer."""
        return sum(packet.samples for packet in self._packets) * 1000 / self.config.clock_rate

    @property
    def packets(self) -> int:
        """Packets waiting in the buffer."""
        return len(self._packets)

    @property
    def target_ms(self) -> float:
        """Delay behind the earliest possible arrival that playout aims at."""
        return self._speech_ms if self._speaking else self._pause_ms

    @property
    def _pause_ms(self) -> float:
        return min(self.config.max_ms, self._delays.target_ms + self._repair_ms)

    @property
    def _speech_ms(self) -> float:
        if not self._peaks.expected_ms:
            return self._pause_ms
        expected_ms = self._peaks.expected_ms + self.config.frame_ms / 2  # the line moves by whole ticks
        return max(self._pause_ms, min(self.config.speech_max_ms, expected_ms))

    @property
    def delay_ms(self) -> float:
        """That delay as it was at the last tick; 0 before playout begins."""
        return self._delay_ns / _MS

    def insert(self, ext_seq: int, rtp_ts: int, payload: bytes, now_ns: int) -> Inserted:
        """Take a packet.

        Args:
            ext_seq: extended sequence number.
            rtp_ts: 32-bit RTP timestamp.
            payload: decrypted Opus packet.
            now_ns: when it could be played at the earliest, on the clock of `pop`.

        Returns:
            `queued`, or why the packet will not be played; each is counted.

        """
        ts = self._unwrap(rtp_ts)
        if ext_seq in self._recent:
            self.counts.duplicates += 1
            return "duplicate"
        transit_ns = now_ns - self._in_ns(ts)
        if self._delays.base_ns is not None and transit_ns < self._delays.base_ns - self.config.resync_ms * _MS:
            self._resync()  # the sender's timestamps have leapt ahead
        self._delays.observe(transit_ns, now_ns)
        base_ns = self._delays.base_ns
        self._peaks.observe(0 if base_ns is None else transit_ns - base_ns, now_ns)
        samples = self._samples(payload)
        if self._is_late(ts, samples, transit_ns):
            self.counts.discarded_late += 1
            if not self._late_run:
                self._late_since_ns = now_ns
            self._late_run += 1
            if self._late_run >= _LATE_RUN and now_ns - self._late_since_ns >= _LATE_RUN_NS:
                self._resync()
                self._delays.observe(transit_ns, now_ns)
            return "discarded_late"
        if len(self._packets) >= self.config.capacity:
            self.counts.overflow += 1
            return "overflow"
        self._late_run = 0
        self._recent[ext_seq] = None
        if len(self._recent) > _RECENT:
            del self._recent[next(iter(self._recent))]
        insort(self._packets, _Held(ts, ext_seq, payload, samples, now_ns))
        if self._next_ts is not None and ts < self._next_ts and ts >= self._played_ts:
            self._next_ts = ts
        return "queued"

    def pop(self, now_ns: int, *, held: int = 0, in_speech: bool = False) -> Playout:
        """Make the next tick; call it once every `frame_ms`.

        Args:
            now_ns: when the tick is due (not when a late loop gets to it).
            held: samples decoded for earlier ticks and not played yet.
            in_speech: the last ticks were speech.

        """
        if self._next_ts is None:
            if not self._ready(now_ns):
                self.counts.silence += 1
                return Playout("silence", (Piece("silence", b"", self._frame_ts),), None)
            self._next_ts = self._played_ts = self._packets[0].ts
        quiet = self._listen(in_speech=in_speech)
        change = self._change(now_ns, self._excess(now_ns, self._next_ts, held), held, quiet=quiet)
        if change == "insert":
            self.counts.silence += 1
            self._kind = "silence"
            return Playout("silence", (Piece("conceal", b"", self._frame_ts),), None)
        wanted = self._frame_ts
        if change == "cut":
            wanted += self._frame_ts
        elif change == "shorten":
            wanted += round(_STRETCH_MS * self.config.clock_rate / 1000)
        rtp_ts = (self._next_ts - held) % _TS_MOD
        pieces: list[Piece] = []
        kind: PlayoutKind | None = None
        ready = held
        while ready < wanted:
            made, piece = self._next_piece(now_ns)
            pieces.append(piece)
            ready += piece.samples - piece.skip
            if kind is None or _SEVERITY[made] > _SEVERITY[kind]:
                kind = made
        if kind is not None:
            self._kind = kind
        self._count(self._kind)
        return Playout(self._kind, tuple(pieces), rtp_ts, change)

    def _next_piece(self, now_ns: int) -> tuple[PlayoutKind, Piece]:
        """Take what comes next on the line: a packet, or filling of at most a tick."""
        if self._next_ts is None:  # pragma: no cover - pop() has made sure
            raise AssertionError("playout has not begun")
        line = self._next_ts
        if self._packets and self._packets[0].ts < line + min(self._frame_ts, self._packets[0].samples) // 2:
            packet = self._packets.pop(0)
            follows = self._last_seq is not None and (packet.seq, packet.ts) == (self._last_seq + 1, self._played_ts)
            self._next_ts = self._played_ts = packet.ts + packet.samples
            self._last_seq, self._filled_ts = packet.seq, 0
            self._active = opus.is_voiced(packet.payload) is not False
            self.waited_ns = now_ns - packet.arrival_ns
            self.counts.played += 1
            skip = max(0, line - packet.ts) if line - packet.ts > self._frame_ts // 2 else 0
            return "played", Piece("packet", packet.payload, packet.samples, skip, follows)
        kind, piece = self._filling(now_ns, line)
        self._next_ts = line + piece.samples
        self._filled_ts += piece.samples
        if self._packets:  # it is known what is missing here: should it come, its time is over
            self._played_ts = self._next_ts
        return kind, piece

    def _filling(self, now_ns: int, line: int) -> tuple[PlayoutKind, Piece]:
        """Fill what has no packet: by FEC, by concealment, or with silence if nothing was sent.

        A whole tick, even if less would do for now: the rest of a lost frame could not be repaired any more.
        """
        filled_ms = self._filled_ts * 1000 / self.config.clock_rate
        if not self._packets or self._last_seq is None:
            silent = not self._active or filled_ms >= self.config.conceal_ms
            return self._made_up(self._frame_ts, silent=silent, noise=filled_ms < self.config.conceal_ms)
        head = self._packets[0]
        gap = head.ts - line
        lost = head.seq - self._last_seq - 1
        if lost < 1:
            return self._made_up(self._whole(gap), silent=True, noise=filled_ms < self.config.conceal_ms)
        if opus.has_fec(head.payload):
            repairs = round(opus.frame_ms(head.payload[0]) * self.config.clock_rate / 1000)
            if self._filled_ts < repairs * lost:
                self._repair_until_ns = now_ns + round(self.config.repair_ms * _MS)
                self._repair_ms = repairs * 1000 / self.config.clock_rate
            if repairs - self._grain_ts < gap <= repairs + self._grain_ts:
                return "fec_recovered", Piece("fec", head.payload, repairs)
            gap -= repairs
        silent = self._filled_ts >= lost * head.samples
        return self._made_up(self._whole(gap), silent=silent, noise=silent)

    def _whole(self, gap: int) -> int:
        """As much of a gap as one tick holds and libopus can make: timestamps may leap by any number of samples."""
        return min(self._frame_ts, max(gap // self._grain_ts, 1) * self._grain_ts)

    def _made_up(self, samples: int, *, silent: bool, noise: bool) -> tuple[PlayoutKind, Piece]:
        """Concealment; or, called silence, what libopus makes of a pause (`noise`), or zeros."""
        if not silent:
            return "concealed", Piece("conceal", b"", samples)
        return "silence", Piece("conceal" if noise else "silence", b"", samples)

    def _listen(self, *, in_speech: bool) -> bool:
        """Say whether neither what was played nor what is next is voice; know by it who speaks and who begins to."""
        voiced = bool(self._packets and opus.is_voiced(self._packets[0].payload))
        if in_speech or voiced:
            self._opening = self._opening or (voiced and not self._speaking)
            self._speaking, self._quiet_ms = True, 0.0
            return False
        self._opening = False
        self._quiet_ms += self.config.frame_ms
        if self._quiet_ms >= self.config.pause_ms:
            self._speaking = False
        return True

    def _change(self, now_ns: int, excess_ns: int, held: int, *, quiet: bool) -> Literal[Change, "insert"]:
        """What to do about a delay that is off the pause's target by `excess_ns`; in speech one thing in `adapt_ms`."""
        over_ns = excess_ns - round((self.target_ms - self._pause_ms) * _MS)
        short_ns = round((self._speech_ms - self._pause_ms) * _MS) - excess_ns
        self._opening = self._opening and short_ns > self._frame_ns // 2
        if self._opening:  # nothing of the first word is heard yet: time put in now tears nothing
            self.counts.changed["insert"] += 1
            return "insert"
        if -self._frame_ns // 2 <= excess_ns and over_ns <= self._frame_ns * 3 // 2:
            return "none"
        if over_ns > self.config.resync_ms * _MS:
            self._leap(over_ns)
            return "none"
        hurried = not self._speaking or max(-excess_ns, over_ns) > self.config.urgent_ms * _MS
        if not hurried and self._adapted_ns is not None and now_ns - self._adapted_ns < self.config.adapt_ms * _MS:
            return "none"
        change = self._remedy(excess_ns, over_ns, held, quiet=quiet)
        if change != "none":
            self._adapted_ns = now_ns
            self.counts.changed[change] += 1
        return change

    def _remedy(self, excess_ns: int, over_ns: int, held: int, *, quiet: bool) -> Literal[Change, "insert"]:
        if excess_ns < 0:
            return "insert" if quiet else "lengthen"
        enough = self._ahead() + held >= 2 * self._frame_ts
        if quiet and (enough or not self._active):
            return "cut"
        if not quiet and enough and over_ns > self.config.far_ms * _MS:
            return "shorten"
        return "none"

    def _ahead(self) -> int:
        """Samples in the buffer that follow the line without a hole, as far as is asked for."""
        end = self._next_ts or 0
        ahead = 0
        for packet in self._packets:
            if packet.ts > end + self._grain_ts or ahead >= 2 * self._frame_ts:
                break
            end = packet.ts + packet.samples
            ahead += packet.samples
        return ahead

    def _ready(self, now_ns: int) -> bool:
        return bool(self._packets) and self._excess(now_ns, self._packets[0].ts, 0) >= -self._frame_ns // 2

    def _excess(self, now_ns: int, ts: int, held: int) -> int:
        """How much later than the target the packet `ts` is needed, in ns: when what is held is played."""
        if self._repair_until_ns is not None and now_ns > self._repair_until_ns:
            self._repair_until_ns, self._repair_ms = None, 0.0
        base_ns = self._delays.base_ns or 0
        self._delay_ns = now_ns - self._in_ns(ts - held) - base_ns
        needed_ns = now_ns + held // self._frame_ts * self._frame_ns
        return needed_ns - self._in_ns(ts) - base_ns - round(self._pause_ms * _MS)

    def _is_late(self, ts: int, samples: int, transit_ns: int) -> bool:
        """Whether a packet's time is over: something after it was played, or going back would take too long."""
        if self._next_ts is None:
            return False
        tolerance = min(self._frame_ts, samples) // 2
        if ts + samples - tolerance > self._next_ts:
            return False
        if ts < self._played_ts - tolerance:
            return True
        return transit_ns - (self._delays.base_ns or 0) > self.config.stall_ms * _MS

    def _leap(self, excess_ns: int) -> None:
        if self._next_ts is None:  # pragma: no cover - pop() has made sure
            raise AssertionError("playout has not begun")
        self._next_ts += excess_ns // self._frame_ns * self._frame_ts
        while self._packets and self._packets[0].ts + self._frame_ts // 2 <= self._next_ts:
            self._last_seq = self._packets.pop(0).seq
            self.counts.discarded += 1
        self._played_ts = self._next_ts

    def _resync(self) -> None:
        self.counts.resyncs += 1
        self.counts.discarded += len(self._packets)
        self._packets.clear()
        self._delays = self._new_delays()
        self._next_ts = self._last_seq = None
        self._late_run = self._filled_ts = 0
        self._active = False

    def _count(self, kind: PlayoutKind) -> None:
        if kind == "played":
            self.counts.played_ticks += 1
        elif kind == "concealed":
            self.counts.concealed += 1
        elif kind == "fec_recovered":
            self.counts.fec_recovered += 1
        else:
            self.counts.silence += 1

    def _new_delays(self) -> Delays:
        config = self.config
        return Delays(config.start_ms, config.min_ms, config.max_ms, config.quantile, config.forget)

    def _samples(self, payload: bytes) -> int:
        duration_ms = opus.duration_ms(payload)
        return round((duration_ms or self.config.frame_ms) * self.config.clock_rate / 1000)

    def _unwrap(self, rtp_ts: int) -> int:
        if self._last_ts is None:
            self._last_ts = rtp_ts
        else:
            self._last_ts += (rtp_ts - self._last_ts + _HALF_TS) % _TS_MOD - _HALF_TS
        return self._last_ts

    def _in_ns(self, ts: int) -> int:
        return ts * _NS // self.config.clock_rate
