"""An edge process killed with SIGKILL in mid-call and started again: the call goes on, and the facts show the gap."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from tests.integration.role_tools import call, packets, ready, role
from tests.integration.stack_tools import settings_in
from tests.integration.transceiver_tools import Client, until

SECOND = 50
"""Packets of 20 ms."""


async def sent(client: Client) -> int:
    """Packets that the client has sent."""
    stats: dict[str, Any] = await client._transceiver.sender.getStats()
    return next(int(one.packetsSent) for one in stats.values() if one.type == "outbound-rtp")


async def test_the_call_goes_on_and_the_gap_is_in_the_facts(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    edge = settings.edges[0]
    settings.ufrag_key_bytes()  # made now, so that the roles do not make one each
    with role(settings, "transceiver") as transceiver:
        with role(settings, "edge", edge.name) as first:
            await ready(settings, transceiver, first)
            client, session = await call(settings, edge.region)
            await until(lambda: len(client.packets) > SECOND)
            await asyncio.sleep(0.5)  # so that what was seen before is in the log: facts in memory die with the process
            first.kill()
            first.wait()
        heard_before, sent_before = len(client.packets), await sent(client)
        await asyncio.sleep(0.3)  # an outage that has to be seen, however fast the new process is
        sent_without = await sent(client)
        with role(settings, "edge", edge.name) as second:
            await ready(settings, transceiver, second)
            sent_ready = await sent(client)
            # Downwards at once: the first packet names the client. Upwards from then on.
            await until(lambda: len(client.packets) > heard_before + SECOND)
            sent_after = await sent(client)
            assert client.peer.connectionState == "connected"
            await asyncio.sleep(0.5)
            await client.close()
    taps = await packets(settings.log_file, session)
    inner, outer = taps["transceiver_in"], taps["edge_up"]
    arrived = [row["ext_seq"] for row in inner]
    lost = sum(row["newly_lost"] for row in inner)
    assert lost == max(arrived) - min(arrived) + 1 - len(set(arrived)), "newly_lost is what did not arrive"
    assert lost >= sent_without - sent_before, "what was sent while there was no edge is lost"
    assert lost <= sent_ready - sent_before + SECOND, "and no more than a second's worth after it was back"
    assert sent_after > sent_ready
    # What the transceiver got, the edges saw, but for what died in the first one's memory.
    first_seq = min(arrived)
    seen = {(row["ext_seq"] - first_seq) % 65_536 for row in outer}
    missed = {seq - first_seq for seq in arrived} - seen
    assert len(missed) <= SECOND
    heard = [row["ext_seq"] for row in taps["edge_down"]]
    assert len(heard) == len(set(heard))
