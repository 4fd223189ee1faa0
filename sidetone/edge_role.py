"""The role of an edge: one process, or a parent of several workers at the same ports."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import NamedTuple

from prometheus_client.registry import Collector

from eventlog.emitter import Emitter
from relay.edge import Edge, EdgeConfig, Sampling
from relay.ufrag import keyring
from sidetone import edge_endpoint, process
from sidetone.addresses import follow_in_background, resolve, resolve_all
from sidetone.endpoints import announced
from sidetone.guard import token_for
from sidetone.roles import emitter_of
from sidetone.serving import address_problem, bind, local_url
from sidetone.settings import Settings, SettingsError
from sidetone.spool_metrics import Emitting, SpoolMetrics

Address = tuple[str, int]


class Places(NamedTuple):
    """Where an edge listens: to clients, and to transceivers."""

    public: Address
    internal: Address


def places_of(settings: Settings, name: str) -> Places:
    """Return where the edge of this name listens.

    Raises:
        SettingsError: there is no such edge, or its host names are not known.

    """
    mine = settings.edge(name)
    host = mine.bind_host or resolve(mine.host, f"SIDETONE_EDGES, {name}")
    internal_host = mine.bind_host or resolve(mine.internal_host, f"SIDETONE_EDGES, {name}")
    return Places((host, mine.port), (internal_host, mine.internal_port))


def transceivers_of(settings: Settings) -> dict[str, Address]:
    """Return where transceivers are, by code, as the settings name them."""
    return {known.code: (known.host, known.port) for known in settings.transceivers}


def config_of(
    settings: Settings, name: str, places: Places, transceivers: Mapping[str, Address], worker: int = 0
) -> EdgeConfig:
    """Return what an edge, or one of its workers, is told; `transceivers` are resolved."""
    mine = settings.edge(name)
    return EdgeConfig(
        name=mine.name,
        region=mine.region,
        bind=places.public,
        internal_bind=places.internal,
        transceivers=transceivers,
        keys=keyring(settings.ufrag_key_bytes(), settings.ufrag_key_previous_bytes()),
        flow_map=settings.data_dir / "flows" / mine.name,
        host_id=socket.gethostname(),
        probes=worker == 0,  # for all: an answer names no client, so that it comes to the first of the workers
        sampling=Sampling(settings.edge_sampling, settings.edge_sampling_one_in, hold_s=settings.edge_sampling_hold_s),
        worker=worker,
        workers=settings.edge_workers,
    )


def facts_of(settings: Settings, name: str) -> Emitter:
    """Return an emitter of the edge's facts; workers have one each, and one spool folder."""
    return emitter_of(settings, "edge", f"edge-{name}", settings.edge(name).region)


def yield_to_voice() -> None:
    """Let the emitter's thread give way to the forwarding loop within half a millisecond instead of five."""
    sys.setswitchinterval(0.0005)


def no_address(error: OSError, name: str, places: Places) -> SettingsError:
    """Return what to tell a person when an edge's ports cannot be had."""
    host, port = places.public
    return SettingsError(f"edge {name}: {address_problem(error, host, port, 'edges')}")


def shown(
    settings: Settings,
    edge: edge_endpoint.Watched,
    emitter: Emitting,
    ending: ExitStack,
    more: Iterable[Collector] = (),
) -> str:
    """Serve an edge's health and metrics until `ending`; return where this machine reaches them.

    Raises:
        SettingsError: the address cannot be had, or needs a token.

    """
    token = token_for(settings.edge_host, settings)
    sock = bind(settings.edge_host, settings.edge_port, "edge_port")
    ending.enter_context(edge_endpoint.serving(edge, sock, token, [SpoolMetrics(emitter), *more]))
    return local_url(sock)


def run_edge(settings: Settings, name: str) -> None:
    """Forward between clients and transceivers until SIGTERM.

    Raises:
        SettingsError: the edge is not in the settings, or its addresses cannot be had.

    """
    places = places_of(settings, name)
    if settings.edge_workers > 1:
        from sidetone.edge_workers import run_workers  # noqa: PLC0415 - knows this module

        return run_workers(settings, name, places)
    from eventlog.lean import steady_memory, without_pandas  # noqa: PLC0415

    without_pandas()
    steady_memory()
    yield_to_voice()
    mine = settings.edge(name)
    transceivers = transceivers_of(settings)
    resolved = resolve_all(transceivers, "SIDETONE_TRANSCEIVERS")
    emitter = facts_of(settings, name)
    try:
        edge = Edge(config_of(settings, name, places, resolved), emitter)
    except OSError as error:
        raise no_address(error, name, places) from None
    with ExitStack() as ending:
        url = shown(settings, edge, emitter, ending)
        ending.enter_context(announced(settings.data_dir, "edge", mine.name, mine.region, url))
        process.prefer_voice()
        emitter.start()
        ending.callback(emitter.close)
        stop = process.stop_event()
        follow_in_background(transceivers, resolved, edge.know, stop)
        process.notify_ready()
        return edge.run(stop, settings.drain_s)
