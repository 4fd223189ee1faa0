"""Kafka's jars, fetched once by Maven into the user's cache."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from importlib.resources import as_file, files
from pathlib import Path


class BrokerUnavailableError(Exception):
    """No broker can be run here. The message says what is missing and how to get it."""


def jars(cache: Path | None = None) -> Path:
    """Return the folder with Kafka's jars, fetched first if it is not there.

    Raises:
        BrokerUnavailableError: Java or Maven are missing, or Maven could not fetch.

    """
    for tool, package in (("java", "openjdk-17-jre-headless"), ("mvn", "maven")):
        if shutil.which(tool) is None and not (tool == "mvn" and _folder(cache).is_dir()):
            raise BrokerUnavailableError(f"a Kafka broker needs {tool}: sudo apt-get install -y {package}")
    folder = _folder(cache)
    if folder.is_dir():
        return folder
    fresh = folder.with_name(f"{folder.name}.{os.getpid()}")
    with as_file(files("sidetone.broker") / "pom.xml") as pom:
        fetched = subprocess.run(  # noqa: S603 - Maven, on our own file
            [  # noqa: S607 - found on the path above
                "mvn",
                "--quiet",
                "--batch-mode",
                f"--file={pom}",
                "dependency:copy-dependencies",
                "-DincludeScope=runtime",
                f"-DoutputDirectory={fresh}",
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    if fetched.returncode:
        shutil.rmtree(fresh, ignore_errors=True)
        raise BrokerUnavailableError(f"Maven could not fetch Kafka: {fetched.stdout[-500:]}{fetched.stderr[-500:]}")
    try:
        fresh.rename(folder)  # whole or not at all
    except OSError:
        shutil.rmtree(fresh)  # another process was quicker
    return folder


def version() -> str:
    """Return the version of Kafka that the pom names."""
    found = re.search(
        r"kafka_2\.13</artifactId>\s*<version>([\d.]+)<", (files("sidetone.broker") / "pom.xml").read_text()
    )
    assert found is not None  # noqa: S101 - our own file
    return found[1]


def _folder(cache: Path | None) -> Path:
    root = cache or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "sidetone"
    root.mkdir(parents=True, exist_ok=True)
    return root / f"kafka-{version()}"
