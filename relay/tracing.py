"""Whether calls are traced: what OpenTelemetry's environment variables say.

Traced calls join the traces of the application that makes them. Without an exporter or a receiver in the environment
nothing of OpenTelemetry's is loaded and no thread is started.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import structlog

if TYPE_CHECKING:
    from relay.tracing_export import Traces

DEFAULT_ENDPOINT: Final = "http://localhost:4318"
"""Of OTLP over HTTP, if an exporter is asked for and no receiver is named."""

PROTOCOL: Final = "http/protobuf"

_log = structlog.get_logger(__name__)


def from_environment(environment: Mapping[str, str], version: str) -> Traces | None:
    """Return what traces calls as the environment wants it, None if it wants nothing. It is not started yet.

    A value that cannot be followed is said in the log and switches tracing off: no call is worth less for it.

    Args:
        environment: with `OTEL_…` as OpenTelemetry specifies them; the library reads the process's own for the rest.
        version: of the software.

    """
    receiver = wanted(environment)
    if receiver is None:
        return None
    from relay.tracing_export import Traces  # noqa: PLC0415 - costs a third of a second and ten megabytes

    return Traces(receiver, version)


def wanted(environment: Mapping[str, str]) -> str | None:
    """Return the receiver's `host:port`, None if there is to be none."""
    value = {name: text.strip() for name, text in environment.items() if name.startswith("OTEL_") and text.strip()}
    if value.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    endpoint = value.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or value.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    exporters = [name.strip() for name in value.get("OTEL_TRACES_EXPORTER", "otlp" if endpoint else "none").split(",")]
    for exporter in exporters:
        if exporter not in {"otlp", "none"}:
            _log.warning("OTEL_TRACES_EXPORTER names an exporter that is not here; choose otlp or none", given=exporter)
    if "otlp" not in exporters:
        return None
    protocol = value.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or value.get("OTEL_EXPORTER_OTLP_PROTOCOL") or PROTOCOL
    if protocol != PROTOCOL:
        _log.warning(
            f"calls are not traced: OTEL_EXPORTER_OTLP_PROTOCOL must be {PROTOCOL} (port 4318 as a rule)",
            given=protocol,
        )
        return None
    return _receiver(endpoint or DEFAULT_ENDPOINT)


def _receiver(endpoint: str) -> str | None:
    try:
        parts = urlsplit(endpoint)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
        parts = urlsplit("")
    if parts.scheme not in {"http", "https"} or not host:
        _log.warning("calls are not traced: OTEL_EXPORTER_OTLP_ENDPOINT must be a URL, http://host:4318 or the like")
        return None
    return host if port is None else f"{host}:{port}"
