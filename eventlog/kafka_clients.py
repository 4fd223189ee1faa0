"""aiokafka's clients: how to reach the brokers, and what aiokafka does not do by itself when it cannot."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaConnectionError, KafkaError

_logger = logging.getLogger(__name__)

_STOP_S: Final = 1.0
_ASK_MS: Final = 5_000
_EVERY_S: Final = 30.0


class _NoPasswords(logging.Filter):
    """Keeps log-ins, which hold the password in clear with PLAIN, out of aiokafka's log of all requests (DEBUG)."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "SaslAuthenticateRequest" not in record.getMessage()


class _Seldom(logging.Filter):
    """Lets each kind of message through once in a while: aiokafka repeats them ten times a second during an outage."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        kind, now = str(record.msg), time.monotonic()
        if record.levelno < logging.WARNING or now - self._last.get(kind, -_EVERY_S) >= _EVERY_S:
            self._last[kind] = now
            return True
        return False


logging.getLogger("aiokafka.conn").addFilter(_NoPasswords())
for _name in ("", ".cluster", ".producer.sender", ".consumer.fetcher", ".consumer.group_coordinator"):
    logging.getLogger(f"aiokafka{_name}").addFilter(_Seldom())


@dataclass(frozen=True, slots=True)
class KafkaConnection:
    """How to reach the brokers.

    Attributes:
        bootstrap: `host:port`, several with commas.
        security_protocol: `PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`.
        ca_file: certificate authority that signed the brokers' certificates, PEM; the system's if None.
        sasl_mechanism: `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
        username: for SASL.
        password: for SASL; never logged.

    """

    bootstrap: str
    security_protocol: str = "PLAINTEXT"
    ca_file: str | None = None
    sasl_mechanism: str = "PLAIN"
    username: str | None = None
    password: str | None = None

    def __repr__(self) -> str:
        """Everything but the password."""
        return f"KafkaConnection({self.bootstrap}, {self.security_protocol}, user={self.username})"

    def arguments(self) -> dict[str, Any]:
        """Return the arguments that every aiokafka client takes."""
        given: dict[str, Any] = {"bootstrap_servers": self.bootstrap, "security_protocol": self.security_protocol}
        if "SSL" in self.security_protocol:
            given["ssl_context"] = ssl.create_default_context(cafile=self.ca_file)
        if self.security_protocol.startswith("SASL"):
            given |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        return given


async def started(client: AIOKafkaProducer | AIOKafkaConsumer) -> None:
    """Start a client, or leave nothing of it behind."""
    try:
        await client.start()
    except BaseException:
        with contextlib.suppress(KafkaError):  # the first error is the one to tell
            await client.stop()
        raise


async def discard(producer: AIOKafkaProducer) -> None:
    """End a producer without waiting for what it has not sent yet.

    Its own `stop` waits for that, which takes as long as the broker is away, and for ever when an idempotent producer
    is stuck; it has no other way to end.
    """
    producer._message_accumulator.fail_all(KafkaConnectionError("the producer was given up"))  # noqa: SLF001
    stopping = asyncio.ensure_future(producer.stop())
    await asyncio.wait({stopping}, timeout=_STOP_S)
    if stopping.done():
        if not stopping.cancelled() and (error := stopping.exception()) is not None:
            _logger.warning("a Kafka producer did not end in order: %s", error)
        return
    stopping.cancel()
    await producer.client.close()
    await asyncio.gather(stopping, return_exceptions=True)


async def why_unreachable(arguments: dict[str, Any]) -> str:
    """Return what the brokers say to a connection, as aiokafka only says that none could be made; "" if one can."""
    client = AIOKafkaClient(**{"client_id": "sidetone", **arguments})
    given = {name: value for name, value in arguments.items() if name != "bootstrap_servers"}
    found = []
    for host, port, _ in client.hosts:
        try:
            connection = await create_conn(host, port, request_timeout_ms=_ASK_MS, **given)
        except (KafkaError, OSError, TimeoutError) as error:
            found.append(f"{host}:{port}: {type(error).__name__}: {error}")
        else:
            connection.close()
    return "; ".join(found)
