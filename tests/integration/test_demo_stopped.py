"""A demo that is stopped before it has begun."""

import asyncio
from pathlib import Path

import pytest

from sidetone.demo.run import DemoOptions, fresh_data_dir, run_demo
from sidetone.settings import SettingsError
from tests.integration.collector_tools import until
from tests.integration.stack_tools import interrupt, processes_of, running, settings_in


async def test_a_demo_stopped_before_the_first_call_has_nothing_to_account_for(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "data")
    stop = asyncio.Event()
    stop.set()
    said: list[str] = []
    assert await run_demo(settings, DemoOptions(dashboard=False), stop, said.append) is None
    assert processes_of(settings.data_dir) == []


async def test_parts_that_are_not_ready_yet_end_cleanly(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "data")
    said: list[str] = []
    stop = asyncio.Event()
    demo = asyncio.create_task(run_demo(settings, DemoOptions(dashboard=False), stop, said.append))
    await until(lambda: bool(processes_of(settings.data_dir)))
    stop.set()
    await demo
    assert [line for line in said if "cleanly" in line] == []
    assert processes_of(settings.data_dir) == []


async def test_a_second_demo_leaves_the_data_of_one_that_runs_alone(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "data")
    with fresh_data_dir(settings):
        (settings.data_dir / "log.sqlite").write_text("what the first has recorded")
        with pytest.raises(SettingsError, match="a demo runs in"):
            await run_demo(settings, DemoOptions(dashboard=False), asyncio.Event(), print)
        assert (settings.data_dir / "log.sqlite").exists()
    with fresh_data_dir(settings):
        assert [path.name for path in settings.data_dir.iterdir()] == [".sidetone-demo"]


async def test_ctrl_c_during_the_start_is_no_traceback(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "data")
    arguments = ["demo", "--headless", "--seconds", "5", "--data-dir", str(settings.data_dir)]
    with running(arguments, settings.as_environment()) as process:
        await until((settings.data_dir / "logs").exists)
        interrupt(process)
        _, said = await asyncio.to_thread(process.communicate, timeout=60)
    assert "Traceback" not in said
    assert "cleanly" not in said
    assert process.returncode in {0, 130}  # 0 if everything stood before the signal came
    assert processes_of(settings.data_dir) == []
