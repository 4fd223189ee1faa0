import io
from typing import Any

from rich.console import Console

from sidetone.cli.top import _tables


def process(role: str, **columns: Any) -> dict[str, Any]:
    rates = {f"{name}_per_s": 1_187.0 for name in ("up", "down", "voice", "dropped")}
    counts = {"calls": 120, "shed": 0, "overflowed": 0, "underruns": 0, "loss": 0.019}
    dropped = {"stale_keep": 1_234, "unknown_source": 3, "nothing": 0}
    names = {"role": role, "region": "ap-south", "name": "ap-south-1", "trouble": None}
    return names | rates | counts | {"dropped": dropped} | columns


def test_a_terminal_of_80_columns_shows_every_figure_and_reason() -> None:
    console = Console(width=80, file=io.StringIO(), record=True)
    rows = [process("edge"), process("transceiver"), process("edge", name="mars-1", trouble="it does not answer")]
    console.print(_tables(rows))
    said = console.export_text()
    assert "\N{HORIZONTAL ELLIPSIS}" not in said
    for text in ("overflow", "underruns", "1,187", "1.9 %", "stale_keep 1,234, unknown_source 3", "it does not answer"):
        assert text in said
