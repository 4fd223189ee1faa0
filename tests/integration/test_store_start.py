"""What a person sees when the store cannot start: what is wrong, where, and what to do."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import clickhouse_connect
import pytest

from sidetone.store.about import ABOUT
from sidetone.store.process import StoreProcess


def fail_to_start(data_dir: Path, *options: str) -> str:
    command = [sys.executable, "-m", "sidetone.store", "--data-dir", str(data_dir), "--port", "0", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_busy_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        message = fail_to_start(tmp_path, "--port", str(port))
    assert f"127.0.0.1:{port}" in message
    assert "--port" in message


def test_another_machine_is_not_served(tmp_path: Path) -> None:
    assert "this machine only" in fail_to_start(tmp_path, "--host", "0.0.0.0")
    assert "this machine only" in fail_to_start(tmp_path, "--host", "example.org")


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    message = fail_to_start(tmp_path / "file" / "data")
    assert str(tmp_path / "file" / "data") in message
    assert "--data-dir" in message


def test_a_directory_in_use_names_the_process(tmp_path: Path) -> None:
    with StoreProcess(tmp_path) as store:
        message = fail_to_start(tmp_path)
        assert f"process {store.process.pid}" in message
        assert clickhouse_connect.get_client(host=store.host, port=store.port).ping()
    with StoreProcess(tmp_path):
        """A killed store's lock is gone with it."""


@pytest.mark.parametrize("content", [b"\0garbage", b""])
def test_a_damaged_directory_says_what_to_do(tmp_path: Path, content: bytes) -> None:
    with StoreProcess(tmp_path) as store:
        client = clickhouse_connect.get_client(host=store.host, port=store.port)
        client.command("CREATE TABLE t (a Int32) ENGINE = MergeTree ORDER BY a")
        assert store.terminate() == 0
    metadata = [path for path in tmp_path.rglob("t.sql") if path.is_file()]
    assert metadata
    for path in metadata:
        path.write_bytes(content)
    message = fail_to_start(tmp_path)
    assert str(tmp_path) in message
    assert "event log" in message
    assert "Stack trace" not in message


def test_help_is_what_the_docs_say() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "sidetone.store", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert ABOUT.strip() in shown
    docs = Path(__file__).parents[2] / "docs" / "store.md"
    assert ABOUT.strip() in docs.read_text()


def test_the_directory_may_be_relative(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "sidetone.store", "--data-dir", "here", "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline().startswith("127.0.0.1 ")
        process.terminate()
    assert process.returncode == 0
    assert (tmp_path / "here").is_dir()
