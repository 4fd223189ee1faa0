"""What one transceiver is told."""

from __future__ import annotations

import hashlib
import json
import socket
from dataclasses import asdict, dataclass, field, replace

from relay import encap
from relay.models import ModelConfig
from relay.ufrag import check_code, check_keys
from voice.endpointing import Predictor
from voice.floor import FloorConfig
from voice.jitterbuffer import JitterBufferConfig
from voice.transcript import TranscriptPredictor
from voice.vad import EnergyVad, Vad, WebRtcVad

VADS = ("webrtcvad", "silero", "energy")
VAD_AGGRESSIVENESS_MAX = 3
ENDPOINTINGS = ("silence", "smart-turn", "transcript", "model")


@dataclass(frozen=True, slots=True)
class EdgeAddress:
    """An edge by which calls enter.

    Attributes:
        name: of the edge.
        region: written on every fact of a call that enters here.
        advertised: host and port that clients are told to send to.
        internal: numeric host and port from which this edge talks to transceivers; no other source is listened to.

    """

    name: str
    region: str
    advertised: tuple[str, int]
    internal: tuple[str, int]


@dataclass(frozen=True, slots=True)
class TransceiverConfig:
    """One transceiver.

    Attributes:
        code: four ice-chars by which ufrags name it.
        region: where it runs (`remote_region` of its legs; the attribute `transceiver_region` of its sessions).
        ufrag_key: shared with the edges, at least 16 bytes; `ufrag_key_id` is the id under which they know it.
        ufrag_key_other: a second key that edges may use for headers, while keys are being exchanged.
        bind: host and port of its one UDP socket (port 0: any free one).
        edges: by which calls enter; the first is the default. More may be added while it runs.
        host_id: names this host's clock.
        model: who answers.
        floor: settings of turn-taking; a `detector_hangover_ms` of 0 is replaced by the detector's own.
        jitter: settings of the receive buffer.
        vad: `webrtcvad`, `silero` or `energy`.
        vad_aggressiveness: of `webrtcvad`, 0 … 3.
        endpointing: what ends a user's turn: `silence`; a silence as long as `smart-turn` or `transcript` advises; or
            the `model` that listens.
        endpoint_threshold: probability from which a predictor is believed that a turn is over; None: its own.
        seed: with the order of sessions, decides everything random in the conversation.
        behaviours: whether a caller may ask its call's agent to misbehave (`behaviour`).
        max_sessions: more are refused.
        connect_timeout_s: a call that is not connected by then is closed.
        bitrate_bps: of the agent's voice, at most.
        adapt: whether bit rate, redundancy and packet length follow the client's receiver reports.
        dtx: whether packets are left out while the agent is silent.
        voiced_dbov: a frame of the agent's at least this loud counts as voice.
        late_answer_ms: after the user's end, without agent audio: the edge is asked to keep this call's packets.
        batch: datagrams read from the socket before other work gets its turn.
        version: of the software, an attribute of each session.

    Raises:
        ValueError: a code or key is not usable.

    """

    code: str
    region: str
    ufrag_key: bytes
    ufrag_key_id: int = 0
    ufrag_key_other: bytes | None = None
    bind: tuple[str, int] = ("127.0.0.1", 0)
    edges: tuple[EdgeAddress, ...] = ()
    host_id: str = field(default_factory=socket.gethostname)
    model: ModelConfig = field(default_factory=ModelConfig)
    floor: FloorConfig = field(default_factory=FloorConfig)
    jitter: JitterBufferConfig = field(default_factory=JitterBufferConfig)
    vad: str = "webrtcvad"
    vad_aggressiveness: int = 2
    endpointing: str = "silence"
    endpoint_threshold: float | None = None
    seed: int = 0
    behaviours: bool = False
    max_sessions: int = 200
    connect_timeout_s: float = 15.0
    bitrate_bps: int = 32_000
    adapt: bool = True
    dtx: bool = False
    voiced_dbov: float = -55.0
    late_answer_ms: float = 2_500.0
    batch: int = 8
    version: str = "0.1.0"

    def __post_init__(self) -> None:
        """Refuse what could only fail later."""
        check_code(self.code)
        check_keys({self.ufrag_key_id: self.ufrag_key})
        if self.vad not in VADS:
            raise ValueError(f"there is no speech detector {self.vad!r}; choose one of {', '.join(VADS)}")
        if not 0 <= self.vad_aggressiveness <= VAD_AGGRESSIVENESS_MAX:
            raise ValueError(f"vad_aggressiveness is 0 to {VAD_AGGRESSIVENESS_MAX}, not {self.vad_aggressiveness}")
        if self.endpointing not in ENDPOINTINGS:
            known = ", ".join(ENDPOINTINGS)
            raise ValueError(f"there is no endpointing {self.endpointing!r}; choose one of {known}")

    @property
    def header_keys(self) -> tuple[bytes, ...]:
        """Keys for headers to and from edges, the one to sign with first."""
        keys = (self.ufrag_key,) if self.ufrag_key_other is None else (self.ufrag_key, self.ufrag_key_other)
        return tuple(encap.derive(key) for key in keys)

    def make_vad(self) -> Vad:
        """Make a call's own speech detector.

        Raises:
            WeightsError: it, or what runs it, is not installed.

        """
        if self.vad == "silero":
            from relay.predictors.silero import SileroVad  # noqa: PLC0415 - an optional extra

            return SileroVad()
        return WebRtcVad(self.vad_aggressiveness) if self.vad == "webrtcvad" else EnergyVad()

    def make_predictor(self) -> Predictor | None:
        """Make the predictor of ends that all calls share, if turns are ended with one.

        Raises:
            WeightsError: it, or what runs it, is not installed.

        """
        if self.endpointing == "smart-turn":
            from relay.predictors.smart_turn import SmartTurn  # noqa: PLC0415 - an optional extra

            return SmartTurn()
        return TranscriptPredictor() if self.endpointing == "transcript" else None

    def as_json(self) -> str:
        """Everything that shapes a conversation, as a JSON object with sorted keys and without secrets."""
        public = asdict(replace(self, edges=()))
        for name in ("ufrag_key", "ufrag_key_id", "ufrag_key_other", "bind", "edges", "host_id", "late_answer_ms"):
            del public[name]
        return json.dumps(public, sort_keys=True)

    @property
    def hash(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of `as_json()`."""
        return hashlib.sha256(self.as_json().encode()).hexdigest()[:16]
