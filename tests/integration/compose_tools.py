"""The compose file as Compose reads it, and its services as processes of this machine.

What differs from containers: a service's name means this machine (`localhost`), every container port is a free port of
this machine, a path that a volume is mounted on is a folder of the test. Everything else is as the file says.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

from sidetone.broker import jars
from sidetone.ports import held_port

ROOT: Final = Path(__file__).parents[2]
IMAGE: Final = "sidetone:"
_VARIABLE: Final = re.compile(r"\$(?:(\$)|\{(\w+)(?:(:-|:\?)([^}]*))?\})")
_PORT: Final = re.compile(r"(?<![\w.])\d{4,5}(?![\w.])")


class MissingVariableError(Exception):
    """A variable without default is not set."""


def interpolated(node: Any, environment: Mapping[str, str]) -> Any:
    """Fill in variables as the Compose specification says, in the forms that our file uses."""

    def value(match: re.Match[str]) -> str:
        dollar, name, kind, text = match.groups()
        if dollar:
            return "$"
        if environment.get(name):
            return environment[name]
        if kind == ":-":
            return str(text)
        raise MissingVariableError(f"{name} {text or 'has no default'}")

    if isinstance(node, dict):
        return {key: interpolated(item, environment) for key, item in node.items()}
    if isinstance(node, list):
        return [interpolated(item, environment) for item in node]
    return _VARIABLE.sub(value, node) if isinstance(node, str) else node


def as_written() -> dict[str, Any]:
    """Return the compose file with its anchors and merge keys resolved, variables as they stand."""
    # Through JSON, for Compose too sees plain values.
    loaded: dict[str, Any] = json.loads(json.dumps(YAML(typ="safe").load(ROOT / "compose.yaml")))
    return loaded


def secrets() -> dict[str, str]:
    """Return what `deploy/make-env` prints."""
    said = subprocess.run([ROOT / "deploy" / "make-env"], check=True, capture_output=True, text=True).stdout
    return dict(line.split("=", 1) for line in said.splitlines() if "=" in line and not line.startswith("#"))


def image() -> tuple[list[str], dict[str, str]]:
    """Return the entry point and the environment of our image, but for its PATH."""
    text = (ROOT / "Dockerfile").read_text().rpartition("\nFROM ")[2]
    entrypoint: list[str] = json.loads(re.findall(r"^ENTRYPOINT (\[.*\])$", text, re.MULTILINE)[-1])
    return entrypoint, dict(re.findall(r"(?:ENV |^ +)([A-Z_]+)=([^\s\\]+)", text, re.MULTILINE))


@dataclass(slots=True)
class Here:
    """Where the services of a compose file are on this machine."""

    services: dict[str, Any]
    folder: Path
    _ports: dict[tuple[str, str], int] = field(default_factory=dict)
    _private: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Find a free port for each port of each container."""
        checked: Counter[str] = Counter()
        for service in self.services.values():
            checked.update(set(_PORT.findall(json.dumps(service["healthcheck"]["test"]))))
        # The same port checked in several containers is one that each has for itself.
        self._private = {port for port, count in checked.items() if count > 1}
        with ExitStack() as held:
            for name, service in self.services.items():
                for port in _PORT.findall(json.dumps([service.get("environment"), service["healthcheck"]["test"]])):
                    key = self._key(name, port)
                    if key not in self._ports:
                        self._ports[key] = held_port(held, socket.SOCK_STREAM, socket.SOCK_DGRAM)

    def port(self, service: str, port: int) -> int:
        """Return where a container's port is here."""
        return self._ports[self._key(service, str(port))]

    def text(self, service: str, text: str) -> str:
        """Return a value of the file as it has to be here: ports, host names and mounted paths replaced."""
        names = "|".join(map(re.escape, self.services))
        text = re.sub(rf"\b({names})(?=:\d)", "localhost", text)
        text = re.sub(rf'("(?:internal_)?host": )"(?:{names})"', r'\1"localhost"', text)
        for mount in self.services[service].get("volumes", ()):
            source, path, *_ = mount.split(":")
            text = re.sub(rf"^{re.escape(path)}(?=/|$)", str(self.folder / source), text)
        return _PORT.sub(lambda found: str(self._ports.get(self._key(service, found[0]), found[0])), text)

    def environment(self, service: str) -> dict[str, str]:
        """Return the environment of a container: of the image and of the file, nothing of this process."""
        here = {name: self.text(service, value) for name, value in self.services[service]["environment"].items()}
        hosts = {name: "localhost" for name, value in here.items() if name.endswith("_HOST") and value in self.services}
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        of_image = {name: self.text(service, value) for name, value in image()[1].items() if name != "PATH"}
        of_image["SIDETONE_DATA_DIR"] = str(self.folder / service)
        return {**of_image, **here, **hosts, "PATH": path}

    def _key(self, service: str, port: str) -> tuple[str, str]:
        return (service if port in self._private else "", port)


@dataclass(slots=True)
class Container:
    """One of our services as a process."""

    name: str
    here: Here
    process: asyncio.subprocess.Process | None = None

    @property
    def log(self) -> Path:
        """What it wrote."""
        return self.here.folder / f"{self.name}.log"

    async def start(self) -> None:
        """Run the image's entry point with the file's command, in a folder of its own."""
        arguments = [*image()[0], *(self.here.text(self.name, word) for word in self._service["command"])]
        home = self.here.folder / f"{self.name}.home"
        home.mkdir()
        with self.log.open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                *arguments,
                env={**self.here.environment(self.name), "HOME": str(home)},
                cwd=home,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def healthy(self) -> bool:
        """Run the health check of the file."""
        kind, *command = self._service["healthcheck"]["test"]
        assert kind == "CMD"
        assert self.process is not None
        assert self.process.returncode is None, f"{self.name} ended: {self.log.read_text()[-2000:]}"
        check = await asyncio.create_subprocess_exec(
            *(self.here.text(self.name, word) for word in command),
            env=self.here.environment(self.name),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        return await asyncio.wait_for(check.wait(), 30) == 0

    async def stop(self) -> int:
        """Stop as `docker stop` does, and return the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        grace = float(self._service["stop_grace_period"].removesuffix("s"))
        return await asyncio.wait_for(self.process.wait(), grace)

    def kill(self) -> None:
        """End it whatever state it is in."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()

    @property
    def _service(self) -> dict[str, Any]:
        service: dict[str, Any] = self.here.services[self.name]
        return service


async def up(containers: list[Container], healthy: set[str]) -> None:
    """Start each service once those that it depends on are healthy, until all are.

    Args:
        containers: to start.
        healthy: names of services that are already.

    """
    waiting = {container.name: container for container in containers}
    started: dict[str, Container] = {}
    while waiting or started:
        for name, container in list(waiting.items()):
            if set(container.here.services[name].get("depends_on", {})) <= healthy:
                started[name] = waiting.pop(name)
                await container.start()
        assert started, f"nobody will ever start {', '.join(waiting)}"
        for name, container in list(started.items()):
            if await container.healthy():
                healthy.add(name)
                del started[name]
        await asyncio.sleep(0.2)


@contextmanager
def kafka(here: Here) -> Iterator[None]:
    """Run Apache Kafka with the settings that the file gives to its container, as the image's own start does.

    The image makes a property of each variable: `KAFKA_LOG_DIRS` is `log.dirs`.
    """
    environment = here.environment("kafka")
    properties = {
        name.removeprefix("KAFKA_").replace("_", ".").lower(): value
        for name, value in environment.items()
        if name.startswith("KAFKA_") and name != "KAFKA_HEAP_OPTS"
    }
    configuration = here.folder / "server.properties"
    configuration.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
    java = ["java", environment["KAFKA_HEAP_OPTS"], "-cp", f"{jars()}/*"]
    # The image formats without further arguments, which asks for voters that are named in the properties.
    cluster = ["kafka.tools.StorageTool", "format", "-t", "5L6g3nShT-eMCtK--X86sw", "-c", str(configuration)]
    subprocess.run([*java, *cluster], check=True, capture_output=True)
    with (here.folder / "kafka.log").open("wb") as log:
        process = subprocess.Popen([*java, "kafka.Kafka", str(configuration)], stdout=log, stderr=log)
    try:
        yield
    finally:
        process.kill()
        process.wait()


async def answers(port: int) -> None:
    """Wait until something listens on a port of this machine."""
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("localhost", port)
            writer.close()
            return
        await asyncio.sleep(0.1)
