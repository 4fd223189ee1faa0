"""A transceiver that is told to end keeps its calls for a while, and takes no new ones."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from sidetone.settings import Settings
from tests.integration.role_tools import call, ready, role
from tests.integration.stack_tools import settings_in
from tests.integration.transceiver_tools import Client, until


def settings_with(folder: Path, drain_s: float) -> Settings:
    settings = settings_in(folder).model_copy(update={"drain_s": drain_s})
    settings.ufrag_key_bytes()  # made now, so that the roles do not make one each
    return settings


async def test_living_calls_go_on_and_new_ones_are_sent_elsewhere(tmp_path: Path) -> None:
    settings = settings_with(tmp_path, 120)
    edge = settings.edges[0]
    base = f"http://{settings.signalling_host}:{settings.signalling_port}"
    with role(settings, "transceiver") as transceiver, role(settings, "edge", edge.name) as process:
        await ready(settings, transceiver, process)
        client, session = await call(settings, edge.region)
        await until(lambda: len(client.packets) > 10)
        transceiver.terminate()
        async with httpx.AsyncClient(base_url=base) as http:
            async with asyncio.timeout(60):
                while (await http.get("/readyz")).status_code == 200:  # noqa: ASYNC110 - another process brings it about
                    await asyncio.sleep(0.02)
            assert (await http.get("/healthz")).status_code == 200
            refused = await http.post(
                "/v1/realtime/calls", content=await Client().offer(), headers={"content-type": "application/sdp"}
            )
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) > 0
            assert "being stopped" in refused.text
            heard = len(client.packets)
            await until(lambda: len(client.packets) > heard + 50)
            assert transceiver.poll() is None
            assert (await http.delete(f"/v1/realtime/calls/{session}")).status_code == 200
        # The last call is over: it ends without waiting for the limit.
        assert await asyncio.to_thread(transceiver.wait, 60) == 0
        await client.close()


async def test_calls_that_outlive_the_limit_are_ended(tmp_path: Path) -> None:
    settings = settings_with(tmp_path, 0.2)
    edge = settings.edges[0]
    with role(settings, "transceiver") as transceiver, role(settings, "edge", edge.name) as process:
        await ready(settings, transceiver, process)
        client, _ = await call(settings, edge.region)
        transceiver.terminate()
        assert await asyncio.to_thread(transceiver.wait, 60) == 0
        await client.close()
