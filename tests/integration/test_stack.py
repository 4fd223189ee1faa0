import os
import signal
import socket
import time
from pathlib import Path

import httpx

from tests.integration.stack_tools import gone_within, interrupt, processes_of, running, settings_in, wait_for_line

STOP_S = 5.0


def test_ctrl_c_ends_everything_within_five_seconds(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "data")
    with running(["up"], settings.as_environment()) as process:
        wait_for_line(process, "Ctrl-C ends everything")
        for port in (settings.signalling_port, settings.api_port, settings.collector_port):
            assert httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
        assert httpx.get(f"http://127.0.0.1:{settings.dashboard_port}/").status_code == 200
        started = time.monotonic()
        interrupt(process)
        assert process.wait(timeout=20) == 0
        assert time.monotonic() - started < STOP_S
    assert processes_of(settings.data_dir) == []


def test_killed_supervisor_leaves_no_process_behind(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "data")
    with running(["up", "--no-dashboard"], settings.as_environment()) as process:
        wait_for_line(process, "Ctrl-C ends everything")
        assert len(processes_of(settings.data_dir)) > 4
        process.kill()
        process.wait()
        assert gone_within(settings.data_dir, STOP_S)


def test_busy_port_ends_the_stack_with_words_and_leaves_nothing_running(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "data")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", settings.signalling_port))
        taken.listen()
        with running(["up"], settings.as_environment()) as process:
            _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"port {settings.signalling_port}" in said
    assert "SIDETONE_SIGNALLING_PORT" in said
    assert "Traceback" not in said
    assert "cleanly" not in said, "what could not start is told once"
    assert processes_of(settings.data_dir) == []


def test_killed_role_is_started_again(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "data")
    with running(["up", "--no-dashboard"], settings.as_environment()) as process:
        wait_for_line(process, "Ctrl-C ends everything")
        (edge,) = [
            pid
            for pid in processes_of(settings.data_dir)
            if f"edge\0{settings.edges[0].name}\0".encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        os.kill(edge, signal.SIGKILL)
        wait_for_line(process, f"edge-{settings.edges[0].name} died")
        wait_for_line(process, f"edge-{settings.edges[0].name} is ready")
        interrupt(process)
        assert process.wait(timeout=20) == 0


def test_data_dir_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = settings_in(tmp_path / "data")
    with running(["up", "--data-dir", str(tmp_path / "file" / "data")], settings.as_environment()) as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "cannot be written" in said
    assert "--data-dir" in said
    assert "Traceback" not in said
