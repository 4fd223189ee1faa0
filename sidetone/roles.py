"""Each role as one process: build the part from the settings, say that it is ready, run it until SIGTERM.

The modules of a role are imported by the role's own function, because most are heavy and no process needs two.
"""

# ruff: noqa: PLC0415 - see above

from __future__ import annotations

import asyncio
import functools
import os
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from relay.ufrag import key_id_of
from sidetone import process
from sidetone.addresses import follow_in_background, resolve, resolve_all
from sidetone.endpoints import announced
from sidetone.guard import token_for
from sidetone.serving import address_problem, bind, local_url, serve
from sidetone.settings import Settings, SettingsError, TransceiverSetting
from sidetone.stack.plan import COLLECTOR_LOADS_S

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

    from collector import StoreSettings
    from eventlog.emitter import Emitter
    from eventlog.port import EventLog
    from relay.transceiver import Transceiver
    from voice.floor import FloorConfig


def log_opener(settings: Settings) -> Callable[[], EventLog]:
    """Return what opens this installation's event log; each emitter thread and collector opens its own.

    Raises:
        SettingsError: the log is Kafka and nothing says where its brokers are.

    """
    if settings.log == "kafka":
        return _kafka_opener(settings)
    from eventlog.sqlite import SqliteEventLog

    settings.make_data_dir()
    return functools.partial(
        SqliteEventLog,
        settings.log_file,
        partitions=settings.log_partitions,
        max_bytes=settings.log_max_bytes,
        max_age_s=settings.log_max_age_hours * 3600,
    )


def _kafka_opener(settings: Settings) -> Callable[[], EventLog]:
    from eventlog.kafka import KafkaEventLog
    from eventlog.kafka_clients import KafkaConnection
    from eventlog.topics import declared

    if settings.kafka_bootstrap is None:
        raise SettingsError("the log is kafka, but nothing says where it is: set SIDETONE_KAFKA_BOOTSTRAP=host:port")
    password = settings.kafka_password
    connection = KafkaConnection(
        settings.kafka_bootstrap,
        security_protocol=settings.kafka_security_protocol,
        ca_file=str(settings.kafka_ca_file) if settings.kafka_ca_file else None,
        sasl_mechanism=settings.kafka_sasl_mechanism,
        username=settings.kafka_username,
        password=password.get_secret_value() if password else None,
    )
    topics = declared(
        partitions=settings.kafka_partitions,
        replication=settings.kafka_replication,
        retention_days=settings.kafka_retention_days,
    )
    return functools.partial(KafkaEventLog, connection, topics)


def emitter_of(settings: Settings, role: str, name: str, region: str) -> Emitter:
    """Return an emitter of a role's facts, not started; `name` is of its folder for what the log cannot take yet."""
    from eventlog.emitter import Emitter

    return Emitter(
        log_opener(settings),
        role=role,
        region=region,
        host_id=socket.gethostname(),
        spool_dir=settings.data_dir / "spool" / name.replace("/", "_"),
        spool_max_bytes=settings.spool_max_bytes,
        partitions=settings.kafka_partitions if settings.log == "kafka" else settings.log_partitions,
    )


def _spool_metrics(emitter: Emitter) -> list[Collector]:
    from sidetone.spool_metrics import SpoolMetrics

    return [SpoolMetrics(emitter)]


def run_transceiver(settings: Settings, code: str | None) -> None:
    """Answer calls, hold them and talk to the model until SIGTERM.

    Raises:
        SettingsError: the transceiver is not in the settings, or an address cannot be had.

    """
    import uvloop

    from eventlog.lean import without_pandas

    without_pandas()
    uvloop.run(_transceiver(settings, code))


def _floor(settings: Settings) -> FloorConfig:
    from voice.floor import SPECULATE_MS, FloorConfig

    speculates = settings.speculate == "on" or (settings.speculate == "auto" and settings.model == "scripted")
    return FloorConfig(
        endpoint_silence_ms=settings.endpoint_silence_ms,
        likely_silence_ms=settings.endpoint_likely_ms,
        unlikely_silence_ms=settings.endpoint_unlikely_ms,
        speculate_ms=SPECULATE_MS if speculates else None,
        barge_in_ms=settings.barge_in_ms,
        backchannel_ms=settings.backchannel_ms,
    )


async def _transceiver(settings: Settings, code: str | None) -> None:
    from relay import tracing
    from relay.app import admits, create_app, readable
    from relay.ephemeral import EphemeralKeys
    from relay.models import ModelConfig, OpenAIConfig
    from relay.transceiver import EdgeAddress, Transceiver, TransceiverConfig

    mine = settings.transceiver(code)
    sock = bind(settings.signalling_host, settings.signalling_port, "signalling_port")
    emitter = emitter_of(settings, "transceiver", f"transceiver-{mine.code}", settings.transceiver_region)
    bind_host = mine.bind_host
    if bind_host is None:
        bind_host = await asyncio.to_thread(resolve, mine.host, "SIDETONE_TRANSCEIVERS")
    places = {f"{edge.name} for clients": (edge.host, edge.port) for edge in settings.edges}
    places |= {f"{edge.name} inside": (edge.internal_host, edge.internal_port) for edge in settings.edges}
    resolved = await asyncio.to_thread(resolve_all, places, "SIDETONE_EDGES")

    def edges(known: Mapping[str, tuple[str, int]]) -> tuple[EdgeAddress, ...]:
        return tuple(
            EdgeAddress(edge.name, edge.region, known[f"{edge.name} for clients"], known[f"{edge.name} inside"])
            for edge in settings.edges
            if {f"{edge.name} for clients", f"{edge.name} inside"} <= known.keys()
        )

    if not edges(resolved):
        raise SettingsError("no edge's address is known; start an edge, or correct the host names in SIDETONE_EDGES")
    config = TransceiverConfig(
        code=mine.code,
        region=settings.transceiver_region,
        bind=(bind_host, mine.port),
        edges=edges(resolved),
        ufrag_key=settings.ufrag_key_bytes(),
        ufrag_key_id=key_id_of(settings.ufrag_key_bytes()),
        ufrag_key_other=settings.ufrag_key_previous_bytes(),
        host_id=socket.gethostname(),
        model=ModelConfig(
            name=settings.model,
            seed=settings.model_seed,
            think_median_ms=settings.think_ms,
            openai=OpenAIConfig(
                url=settings.openai_url,
                model=settings.openai_model,
                voice=settings.openai_voice,
                instructions=settings.openai_instructions,
                turn_detection=settings.openai_turn_detection,
                transcription=settings.openai_transcription,
                hand_on=settings.openai_hand_on,
            ),
        ),
        floor=_floor(settings),
        vad=settings.vad,
        endpointing=settings.endpointing,
        endpoint_threshold=settings.endpoint_threshold,
        behaviours=settings.behaviours,
        adapt=settings.adapt_sender,
        dtx=settings.downlink_dtx,
        late_answer_ms=settings.late_answer_ms,
        max_sessions=settings.max_calls,
    )
    traces = tracing.from_environment(os.environ, config.version)
    transceiver = Transceiver(config, traces.watching(emitter) if traces else emitter)
    stop = process.async_stop_event()
    try:
        await _start(transceiver, bind_host, mine)
    except SettingsError:
        sock.close()
        raise
    loop = asyncio.get_running_loop()

    def moved(now: Mapping[str, tuple[str, int]]) -> None:
        for edge in edges(now):
            loop.call_soon_threadsafe(transceiver.add_edge, edge)

    ended, _leaving = _ended_after_draining(transceiver, stop, settings.drain_s)
    ending = threading.Event()
    follow_in_background(places, resolved, moved, ending)
    process.prefer_voice()
    emitter.start()
    if traces:
        traces.start()
    try:
        keys = EphemeralKeys(settings.ufrag_key_bytes())
        app = create_app(
            transceiver,
            allowed_origins=settings.allowed_origins,
            keys=keys,
            own_token=settings.token.get_secret_value() if settings.token else None,
            metrics=[*_spool_metrics(emitter), *([traces] if traces else [])],
        )
        serving = asyncio.create_task(
            serve(
                app,
                sock,
                settings,
                ended,
                admits=admits(keys),
                refusing=lambda refusal: readable(refusal, settings.allowed_origins),
            )
        )
        process.settle_memory()
        process.notify_ready()
        with announced(settings.data_dir, "transceiver", mine.code, settings.transceiver_region, local_url(sock)):
            await serving
    finally:
        ending.set()
        await transceiver.aclose()
        closing: list[Callable[[], object]] = [emitter.close, *([traces.close] if traces else [])]
        await asyncio.gather(*(asyncio.to_thread(close) for close in closing))


async def _start(transceiver: Transceiver, bind_host: str, mine: TransceiverSetting) -> None:
    from relay.models import ModelError
    from relay.predictors import WeightsError

    try:
        await transceiver.start()
    except (ModelError, WeightsError) as error:
        raise SettingsError(f"transceiver {mine.code}: {error}") from None
    except OSError as error:
        problem = address_problem(error, bind_host, mine.port, "transceivers")
        raise SettingsError(f"transceiver {mine.code}: {problem}") from None


def _ended_after_draining(
    transceiver: Transceiver, stop: asyncio.Event, drain_s: float
) -> tuple[asyncio.Event, asyncio.Task[None]]:
    ended = asyncio.Event()

    async def leave() -> None:
        await stop.wait()
        await transceiver.drain(drain_s)
        ended.set()

    return ended, asyncio.create_task(leave())


def store_settings(settings: Settings) -> StoreSettings:
    """Return what the store's tables are made with."""
    from collector import StoreSettings

    return StoreSettings(
        dedup_window=settings.store_dedup_window,
        cluster=settings.store_cluster,
        ttl_facts_days=settings.store_ttl_facts_days,
        ttl_audio_days=settings.store_ttl_audio_days,
        ttl_chunks_days=settings.store_ttl_chunks_days,
        ttl_rollup_1s_days=settings.store_ttl_rollup_1s_days,
        ttl_rollup_1m_days=settings.store_ttl_rollup_1m_days,
    )


def run_collector(settings: Settings) -> None:
    """Load the log into the store until SIGTERM, then what is left of it.

    Raises:
        SettingsError: it halted and needs a person; the message says what for.

    """
    import pyarrow as pa

    from collector import CollectorConfig, CollectorHaltedError
    from collector import run_collector as collect

    pa.array([0])  # loads pandas: a second of work, better now than beside the first calls
    host, port, user, password = settings.store()

    async def run() -> None:
        await collect(
            CollectorConfig(
                metrics_host=settings.collector_host,
                metrics_port=settings.collector_port,
                metrics_token=token_for(settings.collector_host, settings),
                stop_grace_s=COLLECTOR_LOADS_S[settings.log],
                store=store_settings(settings),
            ),
            log_opener(settings),
            host,
            port,
            process.async_stop_event(),
            store_user=user,
            store_password=password,
            on_ready=process.notify_ready,
        )

    try:
        asyncio.run(run())
    except CollectorHaltedError as error:
        raise SettingsError(str(error)) from None
    # A store that does not answer holds a thread for as long as an insert may take. What it was to insert stands in
    # the log with its intent, and the next start does it again.
    process.end_now()


def run_store(settings: Settings) -> None:
    """Serve the embedded store on loopback until SIGTERM.

    Raises:
        SettingsError: it cannot start with its port or data dir.

    """
    from sidetone.store.errors import StoreStartError
    from sidetone.store.server import run_store as serve_store

    settings.make_data_dir()
    try:
        serve_store(
            settings.store_dir, settings.store_host, settings.store_port, on_ready=lambda _: process.notify_ready()
        )
    except StoreStartError as error:
        raise SettingsError(str(error)) from None


def run_api(settings: Settings) -> None:
    """Answer questions over HTTP until SIGTERM."""
    from analytics.api import create_app

    async def run() -> None:
        sock = bind(settings.api_host, settings.api_port, "api_port")
        app = create_app(*settings.store())
        stop = process.async_stop_event()
        process.notify_ready()
        await serve(app, sock, settings, stop)

    asyncio.run(run())


def run_dashboard(settings: Settings) -> None:
    """Serve the dashboard until SIGTERM.

    Raises:
        SettingsError: its port cannot be had.

    """
    from streamlit.starlette import App
    from streamlit.web import bootstrap

    import dashboards

    sock = bind(settings.dashboard_host, settings.dashboard_port, "dashboard_port")
    # The page script runs in this process and asks for the store the way any process of ours is told: by environment.
    os.environ.update(settings.as_environment())
    # First, because it tells Streamlit which folder's configuration to read.
    app = App(Path(dashboards.__file__).with_name("app.py"))
    bootstrap.load_config_options(
        {
            "server_address": settings.dashboard_host,
            "server_port": settings.dashboard_port,
            "server_headless": True,
            "server_fileWatcherType": "none",
            "browser_gatherUsageStats": False,
        }
    )

    async def run() -> None:
        stop = process.async_stop_event()
        await serve(app, sock, settings, stop, lifespan="on", on_ready=process.notify_ready)

    asyncio.run(run())


def run_broker(settings: Settings) -> None:
    """Run an Apache Kafka broker on this machine until SIGTERM, on the port that SIDETONE_KAFKA_BOOTSTRAP names.

    Raises:
        SettingsError: it is to run elsewhere, or cannot run here.

    """
    from sidetone.broker import Broker, BrokerUnavailableError

    host, _, port = (settings.kafka_bootstrap or "").rpartition(":")
    if host != "127.0.0.1" or not port.isdecimal():
        raise SettingsError("a broker of our own is reached at SIDETONE_KAFKA_BOOTSTRAP=127.0.0.1:port; set that")
    settings.make_data_dir()
    stop = process.stop_event()
    try:
        with Broker(settings.data_dir / "kafka", port=int(port)) as broker:
            process.notify_ready()
            while broker.alive and not stop.wait(1.0):
                pass
    except BrokerUnavailableError as error:
        raise SettingsError(str(error)) from None
    if not stop.is_set():
        raise SettingsError(f"Kafka ended unasked; its log is {broker.log_file}")
