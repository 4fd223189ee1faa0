"""One broker process: formatted, started, killed, started again on what it had."""

from __future__ import annotations

import ctypes
import signal
import socket
import subprocess
import threading
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from sidetone.broker.jars import BrokerUnavailableError, jars
from sidetone.ports import free_port

_READY_S = 120.0
_STOP_S = 10.0
_PR_SET_PDEATHSIG = 1  # prctl(2), Linux


class Broker:
    """Apache Kafka as one KRaft node on loopback.

    Args:
        folder: its data; kept between starts.
        port: for clients; 0 finds a free one at the first start.
        properties: further lines of `server.properties`.
        heap_mb: Java heap.
        secured: listen for SASL over TLS, too; `properties` say with which keys and users.
        scram_users: users made at the first start, name to password, for SCRAM-SHA-512.

    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        properties: Mapping[str, str] | None = None,
        heap_mb: int = 512,
        secured: bool = False,
        scram_users: Mapping[str, str] | None = None,
    ) -> None:
        self._folder = folder
        self.port = port or free_port()
        self._controller_port = free_port()
        self._secured_port = free_port() if secured else None
        self._users = dict(scram_users or {})
        self._properties = dict(properties or {})
        self._heap_mb = heap_mb
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """Address for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def secured_bootstrap(self) -> str:
        """Address for clients with SASL over TLS."""
        return f"127.0.0.1:{self._secured_port}"

    @property
    def log_file(self) -> Path:
        """What the broker says."""
        return self._folder / "broker.log"

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start and wait until it takes connections.

        Raises:
            BrokerUnavailableError: it did not come up.

        """
        self._folder.mkdir(parents=True, exist_ok=True)
        classpath = f"{jars()}/*"
        configuration = self._folder / "server.properties"
        configuration.write_text("".join(f"{name}={value}\n" for name, value in self._configured().items()))
        if not (self._folder / "data" / "meta.properties").exists():
            cluster = "S" + urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]  # one with "-" first passes for a flag
            users = [
                argument
                for name, password in self._users.items()
                for argument in ("--add-scram", f"SCRAM-SHA-512=[name={name},password={password}]")
            ]
            format_it = ("kafka.tools.StorageTool", "format", "--standalone", "-t", cluster, "-c", configuration)
            self._java(classpath, *format_it, *users)
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - Java, on our own arguments
                ["java", f"-Xmx{self._heap_mb}m", "-cp", classpath, "kafka.Kafka", str(configuration)],  # noqa: S607
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ends with us, however we end; the kernel ties that to the thread, so only with the main one.
                preexec_fn=_end_with_parent if threading.current_thread() is threading.main_thread() else None,  # noqa: PLW1509 - one C call
            )
        deadline = time.monotonic() + _READY_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise BrokerUnavailableError(f"Kafka did not start; its log is {self.log_file}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop it in order."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def kill(self) -> None:
        """Kill it as a crash would (SIGKILL)."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    def _configured(self) -> dict[str, str]:
        secured = f",SASL_SSL://{self.secured_bootstrap}" if self._secured_port else ""
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{self._controller_port}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://127.0.0.1:{self._controller_port}{secured}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}{secured}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL",
            "log.dirs": str(self._folder / "data"),
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "8",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "auto.create.topics.enable": "false",
            **self._properties,
        }

    def _java(self, classpath: str, *arguments: str | Path) -> None:
        ran = subprocess.run(  # noqa: S603 - Java, on our own arguments
            ["java", "-cp", classpath, *map(str, arguments)],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode:
            raise BrokerUnavailableError(f"Kafka's storage cannot be formatted: {ran.stdout[-500:]}{ran.stderr[-500:]}")

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=0.5).close()
        except OSError:
            return False
        return True


_libc = ctypes.CDLL(None, use_errno=True)


def _end_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
