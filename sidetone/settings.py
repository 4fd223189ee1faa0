"""Settings: flag, then `SIDETONE_…` environment variable, then `sidetone.toml`, then the default here.

Every role reads the same settings; each uses what it needs. `docs/settings.md` is generated from this module.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import re
import secrets
from pathlib import Path
from tomllib import TOMLDecodeError
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import SettingsError as SourceError

from relay.ufrag import keyring

MINIMUM_KEY_BYTES = 16


class SettingsError(Exception):
    """A setting is wrong. The message names it, its source and the remedy."""


def _ip(value: str) -> str:
    try:
        return str(ipaddress.ip_address("127.0.0.1" if value == "localhost" else value))
    except ValueError:
        raise ValueError(f"{value!r} is not an IP address") from None


def _host(value: str) -> str:
    # RFC 1123, section 2.1: labels of letters, digits and hyphens; one of digits only at the end would be an address.
    name = re.fullmatch(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*", value)
    if name is not None and len(value) <= _HOST_CHARS_MAX and not value.rpartition(".")[2].isdigit():
        return value
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError(f"{value!r} is neither a host name nor an IP address") from None


_HOST_CHARS_MAX = 253

BindHost = Annotated[str, AfterValidator(_ip)]
"""Where something listens."""

Host = Annotated[str, AfterValidator(_host)]
"""Where something is reached; a name is resolved when it is used."""

Port = Annotated[int, Field(ge=0, le=65535)]


def is_loopback(host: str) -> bool:
    """Tell whether an address can be reached from this machine only."""
    return ipaddress.ip_address(host).is_loopback


def _model_name(name: str) -> str:
    known = ("scripted", "echo", "openai_realtime")
    if name not in known and not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", name):
        raise ValueError(f"there is no voice model {name!r}; choose {', '.join(known)}, or a class: module:Class")
    return name


class EdgeSetting(BaseModel, extra="forbid"):
    """One edge: where clients reach it and where transceivers do; in a container it may listen elsewhere."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")
    region: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")
    host: Host = "127.0.0.1"
    port: Port
    internal_host: Host = "127.0.0.1"
    internal_port: Port
    bind_host: BindHost | None = None


class TransceiverSetting(BaseModel, extra="forbid"):
    """One transceiver: the code that its ufrags carry and where edges reach it; it may listen elsewhere."""

    code: str = Field(pattern=r"^[A-Za-z0-9+/]{4}$")
    host: Host = "127.0.0.1"
    port: Port
    bind_host: BindHost | None = None


def _default_edges() -> list[EdgeSetting]:
    regions = ("eu-west", "us-east", "ap-south")
    return [
        EdgeSetting(name=f"{region}-1", region=region, port=40001 + i, internal_port=41001 + i)
        for i, region in enumerate(regions)
    ]


class Settings(BaseSettings):
    """All settings of all roles."""

    model_config = SettingsConfigDict(env_prefix="SIDETONE_", toml_file="sidetone.toml", extra="forbid")

    data_dir: Path = Field(
        Path("~/.local/share/sidetone"), description="Where the embedded log and store, keys and logs live."
    )
    log: Literal["sqlite", "kafka"] = Field("sqlite", description="Event log: a file on this machine, or Apache Kafka.")
    kafka_bootstrap: str | None = Field(None, description="Kafka's brokers, `host:port`, several with commas.")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How to talk to Kafka."
    )
    kafka_ca_file: Path | None = Field(
        None, description="Authority of the brokers' certificates; the system's if unset."
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="How to log in to Kafka when the protocol is SASL_…."
    )
    kafka_username: str | None = Field(None, description="User for SASL.")
    kafka_password: SecretStr | None = Field(None, description="Password for SASL.")
    kafka_partitions: int = Field(4, ge=1, le=1024, description="Partitions of topics that are created.")
    kafka_replication: int = Field(1, ge=1, le=9, description="Copies of topics that are created.")
    kafka_retention_days: float = Field(7, gt=0, description="Days that created topics keep messages.")
    spool_max_bytes: int = Field(
        2**30, ge=2**20, description="Bytes that an edge or a transceiver keeps on disk while the log is away."
    )
    log_path: Path | None = Field(None, description="File of the SQLite log; `log.sqlite` in the data dir if unset.")
    log_partitions: int = Field(1, ge=1, le=256, description="Partitions per topic of a log that is made anew.")
    log_max_bytes: int = Field(4 * 2**30, ge=2**20, description="Bytes the log keeps before the oldest go.")
    log_max_age_hours: float = Field(7 * 24, gt=0, description="Hours the log keeps a message.")

    store_host: Host = Field("127.0.0.1", description="ClickHouse's HTTP interface.")
    store_port: Port = Field(8123, description="ClickHouse's HTTP port.")
    store_user: str = Field("default", description="ClickHouse user.")
    store_password: SecretStr | None = Field(None, description="Password of that user.")
    store_ttl_facts_days: int | None = Field(
        None, ge=1, description="Days that new tables keep raw facts; for good if unset."
    )
    store_ttl_audio_days: int | None = Field(None, ge=1, description="Days that recorded audio is kept.")
    store_ttl_chunks_days: int | None = Field(None, ge=1, description="Days that the ledger of chunks is kept.")
    store_ttl_rollup_1s_days: int | None = Field(None, ge=1, description="Days that one-second rollups are kept.")
    store_ttl_rollup_1m_days: int | None = Field(None, ge=1, description="Days that one-minute rollups are kept.")
    store_dedup_window: int = Field(
        10_000, ge=100, description="Inserts that each table remembers by their token; above the longest outage's."
    )
    store_cluster: str | None = Field(
        None, description="ClickHouse cluster whose hosts all get the tables, replicated and sharded by session."
    )

    signalling_host: BindHost = Field("127.0.0.1", description="Where the transceiver answers calls over HTTP.")
    signalling_port: Port = Field(8080, description="Port of the transceiver's HTTP interface.")
    api_host: BindHost = Field("127.0.0.1", description="Where the query API listens.")
    api_port: Port = Field(8090, description="Port of the query API.")
    dashboard_host: BindHost = Field("127.0.0.1", description="Where the dashboard listens.")
    dashboard_port: Port = Field(8501, description="Port of the dashboard.")
    collector_host: BindHost = Field("127.0.0.1", description="Where the collector's health and metrics listen.")
    collector_port: Port = Field(8091, description="Port of the collector's health and metrics.")
    edge_host: BindHost = Field("127.0.0.1", description="Where an edge's health and metrics listen.")
    edge_port: Port = Field(
        0,
        description="Port of an edge's health and metrics; any free one if 0.",
    )
    edge_workers: int = Field(
        1, ge=1, le=64, description="Processes of an edge that share its ports; more than one takes Linux."
    )
    edge_sampling: Literal["full", "sampled"] = Field(
        "full",
        description="Packet facts of an edge: all, or all around bad moments and one in so many elsewhere.",
    )
    edge_sampling_one_in: int = Field(
        10, ge=1, le=250, description="Packets that one fact stands for at most, away from bad moments."
    )
    edge_sampling_hold_s: float = Field(
        6,
        ge=2,
        le=30,
        description="Seconds for which a sampling edge holds packets, and of the past that it can keep in full.",
    )
    token: SecretStr | None = Field(
        None, description="Token that callers, programs and browsers must have; required to listen beyond loopback."
    )

    edges: list[EdgeSetting] = Field(default_factory=_default_edges, description="Every edge there is, as JSON.")
    transceivers: list[TransceiverSetting] = Field(
        default_factory=lambda: [TransceiverSetting(code="tx01", port=42001)],
        description="Every transceiver there is, as JSON.",
    )
    drain_s: float = Field(
        0, ge=0, description="Seconds that a role which is told to end keeps its living calls; it takes no new ones."
    )
    transceiver_region: str = Field("eu-west", description="Region this transceiver stands in.")
    ufrag_key: SecretStr | None = Field(
        None,
        description="Key (hex) that signs ufrags, the same on edges and transceivers; made in the data dir if unset.",
    )
    ufrag_key_previous: SecretStr | None = Field(
        None, description="A second key (hex) that is believed but not signed with, while keys are exchanged."
    )

    model: Annotated[str, AfterValidator(_model_name)] = Field(
        "scripted",
        description="Who answers: `scripted`, `echo`, `openai_realtime`, or a class of yours, `module:Class`.",
    )
    openai_url: str = Field(
        "wss://api.openai.com/v1/realtime",
        pattern=r"^wss?://[^@]+$",
        description="Realtime API that `openai_realtime` speaks with; its key is OPENAI_API_KEY in the environment.",
    )
    openai_model: str = Field("gpt-realtime", description="Name of the model there.")
    openai_voice: str | None = Field(None, description="Voice of that model; its own default if unset.")
    openai_instructions: str | None = Field(None, description="System prompt of that model.")
    openai_turn_detection: Literal["own", "server_vad", "semantic_vad"] = Field(
        "own", description="Who tells that model that the user's turn is over: this platform, or the model's server."
    )
    openai_transcription: str | None = Field(None, description="Model that transcribes the user; none if unset.")
    openai_hand_on: bool = Field(
        default=False, description="Whether a caller's own bearer token is used for that model."
    )
    allowed_origins: list[str] = Field(
        default_factory=list, description="Origins whose pages may call from a browser, as JSON; `*` for all."
    )
    model_seed: int = Field(1, description="Seed of the scripted model's think times and answers.")
    think_ms: float = Field(350.0, gt=0, description="Median think time of the scripted model.")
    behaviours: bool = Field(
        False, description="Let callers ask for an agent that errs on purpose; for tests of the measurements only."
    )
    vad: Literal["webrtcvad", "silero"] = Field(
        "webrtcvad", description="Detector of the user's speech; `silero` needs the extra `onnx`."
    )
    endpointing: Literal["silence", "smart-turn", "transcript", "model"] = Field(
        "silence",
        description="What ends the user's turn: a silence; a silence as long as a predictor advises that listens "
        "(`smart-turn`, needs the extra `onnx`) or reads (`transcript`, needs a model that tells the user's words "
        "while they are said); or the `model` that listens.",
    )
    endpoint_silence_ms: float = Field(
        500.0, ge=200, description="Silence that ends a turn where no predictor has an opinion."
    )
    endpoint_likely_ms: float = Field(
        200.0, ge=200, description="Silence that ends a turn that a predictor calls over."
    )
    endpoint_unlikely_ms: float = Field(
        1_200.0, ge=200, description="Silence that ends a turn that a predictor, or the model, does not call over."
    )
    endpoint_threshold: float = Field(
        0.5, ge=0, le=1, description="Probability from which a predictor calls a turn over."
    )
    speculate: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Whether the model is asked at a likely end, before it is decided to be one; such answers may be "
        "for nothing. `auto`: with the scripted model, which costs nothing.",
    )
    barge_in_ms: float = Field(200.0, ge=60, description="Speech over the agent that makes it pause.")
    backchannel_ms: float = Field(
        1_000.0, ge=0, description="Speech over the agent that takes the floor; after less, the agent goes on."
    )
    adapt_sender: bool = Field(
        True, description="Let bit rate, redundancy and packet length of the agent's voice follow receiver reports."
    )
    downlink_dtx: bool = Field(
        False, description="Leave packets out while the agent is silent; loss is not seen there then."
    )
    late_answer_ms: float = Field(
        2_500.0,
        gt=0,
        le=5_000,
        description="Wait for the agent, from the end of the user's speech, after which a sampling edge is asked to "
        "keep the call's packets.",
    )
    max_calls: int = Field(200, ge=1, description="Calls a transceiver holds at once.")
    log_format: Literal["console", "json"] = Field("console", description="How the roles log, on stderr.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: flags, environment, file."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @model_validator(mode="after")
    def _checked(self) -> Self:
        self.data_dir = self.data_dir.expanduser().absolute()
        beyond = [
            name
            for name in ("signalling_host", "api_host", "dashboard_host", "collector_host", "edge_host")
            if not is_loopback(getattr(self, name))
        ]
        if beyond and self.token is None:
            raise ValueError(
                f"{' and '.join(beyond)} would be open to the network: set SIDETONE_TOKEN, or use 127.0.0.1"
            )
        for kind, names in (
            ("edges", [edge.name for edge in self.edges]),
            ("transceivers", [transceiver.code for transceiver in self.transceivers]),
        ):
            if len(set(names)) != len(names) or not names:
                raise ValueError(f"{kind} must be one or more, with a name of its own each; got {names}")
        if self.ufrag_key is not None:
            _key_bytes(self.ufrag_key.get_secret_value(), "ufrag_key")
        if self.ufrag_key_previous is not None:
            _key_bytes(self.ufrag_key_previous.get_secret_value(), "ufrag_key_previous")
        self._check_endpointing()
        if self.kafka_security_protocol.startswith("SASL") and not (self.kafka_username and self.kafka_password):
            raise ValueError(
                f"{self.kafka_security_protocol} needs SIDETONE_KAFKA_USERNAME and SIDETONE_KAFKA_PASSWORD"
            )
        return self

    def _check_endpointing(self) -> None:
        pretends = self.model in ("scripted", "echo")
        api = self.model == "openai_realtime"
        if self.endpointing == "model" and (pretends or (api and self.openai_turn_detection == "own")):
            raise ValueError(
                "endpointing by the model needs one that listens: SIDETONE_MODEL=openai_realtime with "
                "SIDETONE_OPENAI_TURN_DETECTION=server_vad or semantic_vad"
            )
        if self.endpointing == "model" and api and self.speculate == "on":
            raise ValueError(
                "SIDETONE_SPECULATE=on does not go with endpointing by the model: asking in advance takes the user's "
                "words from the server's detector, which then never says that the turn is over: leave it at auto"
            )
        if self.endpointing == "transcript" and (pretends or (api and self.openai_transcription is None)):
            raise ValueError(
                "endpointing by transcript needs a model that tells the user's words: SIDETONE_MODEL=openai_realtime "
                "with SIDETONE_OPENAI_TRANSCRIPTION=gpt-live-transcribe, or another that tells them while they are said"
            )

    @property
    def log_file(self) -> Path:
        """Path of the SQLite log."""
        return self.log_path.expanduser().absolute() if self.log_path else self.data_dir / "log.sqlite"

    def store(self) -> tuple[str, int, str, str]:
        """Return the store's host and port, and a user of it with the password."""
        password = self.store_password.get_secret_value() if self.store_password else ""
        return self.store_host, self.store_port, self.store_user, password

    @property
    def store_dir(self) -> Path:
        """Data path of the embedded store."""
        return self.data_dir / "store"

    def as_environment(self) -> dict[str, str]:
        """Return these settings as the environment that gives another process the same ones."""
        environment = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, SecretStr):
                text = value.get_secret_value()
            elif isinstance(value, list):
                text = json.dumps(
                    [item.model_dump(exclude_none=True) if isinstance(item, BaseModel) else item for item in value]
                )
            else:
                text = str(value)
            environment[f"SIDETONE_{name.upper()}"] = text
        return environment

    def edge(self, name: str) -> EdgeSetting:
        """Return the edge of that name.

        Raises:
            SettingsError: there is none.

        """
        for edge in self.edges:
            if edge.name == name:
                return edge
        known = ", ".join(edge.name for edge in self.edges)
        raise SettingsError(f"no edge named {name!r} in the settings; there are: {known} (SIDETONE_EDGES adds more)")

    def transceiver(self, code: str | None) -> TransceiverSetting:
        """Return the transceiver of that code, the first one if None.

        Raises:
            SettingsError: there is none.

        """
        if code is None:
            return self.transceivers[0]
        for transceiver in self.transceivers:
            if transceiver.code == code:
                return transceiver
        known = ", ".join(transceiver.code for transceiver in self.transceivers)
        raise SettingsError(f"no transceiver {code!r} in the settings; there are: {known} (SIDETONE_TRANSCEIVERS)")

    def ufrag_key_bytes(self) -> bytes:
        """Return the signing key; one is made in the data dir (mode 0600) if none was set.

        Raises:
            SettingsError: the key file is not readable or not a key.

        """
        if self.ufrag_key is not None:
            return _key_bytes(self.ufrag_key.get_secret_value(), "SIDETONE_UFRAG_KEY")
        path = self.data_dir / "ufrag.key"
        if not path.exists():
            self.make_data_dir()
            # Linked into place whole, because the roles of one machine start at once and all look for it.
            fresh = self.data_dir / f".ufrag-{secrets.token_hex(4)}"
            fresh.touch(mode=0o600)
            fresh.write_text(secrets.token_hex(32))
            with contextlib.suppress(FileExistsError):
                os.link(fresh, path)
            fresh.unlink()
        return _key_bytes(path.read_text().strip(), str(path))

    def ufrag_key_previous_bytes(self) -> bytes | None:
        """Return the second key, if there is one.

        Raises:
            SettingsError: it goes by the same id as the first.

        """
        if self.ufrag_key_previous is None:
            return None
        previous = _key_bytes(self.ufrag_key_previous.get_secret_value(), "SIDETONE_UFRAG_KEY_PREVIOUS")
        try:
            keyring(self.ufrag_key_bytes(), previous)
        except ValueError as error:
            raise SettingsError(f"SIDETONE_UFRAG_KEY_PREVIOUS: {error} with: openssl rand -hex 32") from None
        return previous

    def make_data_dir(self) -> Path:
        """Make the data dir, private to the user.

        Raises:
            SettingsError: it cannot be made or written.

        """
        try:
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            probe = self.data_dir / f".write-{secrets.token_hex(4)}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise SettingsError(
                f"the data dir {self.data_dir} cannot be written ({error.strerror}); "
                "name another with --data-dir or SIDETONE_DATA_DIR"
            ) from None
        return self.data_dir


def load(**flags: Any) -> Settings:
    """Read the settings; flags that are None were not given.

    Raises:
        SettingsError: something is wrong with a value, whatever its source.

    """
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        problems = []
        for problem in error.errors():
            name = ".".join(str(part) for part in problem["loc"])
            where = f"{name} (flag, SIDETONE_{name.split('.')[0].upper()} or sidetone.toml)" if name else "settings"
            unknown = problem["type"] == "extra_forbidden"
            said = "there is no such setting" if unknown else problem["msg"].removeprefix("Value error, ")
            problems.append(f"{where}: {said}")
        raise SettingsError("; ".join(problems)) from None
    except TOMLDecodeError as error:
        raise SettingsError(f"{Path('sidetone.toml').absolute()} is not TOML: {error}") from None
    except SourceError as error:
        field = re.search('field "([^"]+)"', str(error))
        where = f"SIDETONE_{field[1].upper()}" if field else "a SIDETONE_… variable"
        raise SettingsError(f"{where} is not JSON: {error.__cause__ or error}") from None


def _key_bytes(text: str, where: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        raise SettingsError(f"{where} is not hexadecimal; make one with: openssl rand -hex 32") from None
    if len(key) < MINIMUM_KEY_BYTES:
        raise SettingsError(f"{where} is shorter than {MINIMUM_KEY_BYTES} bytes; make one with: openssl rand -hex 32")
    return key
