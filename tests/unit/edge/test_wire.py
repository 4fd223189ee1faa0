from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from relay.edge import wire


@pytest.mark.parametrize("changed", ["index.h", "index.c", "wire.h", "derive.c"])
def test_a_library_of_other_sources_is_not_taken_for_this_one(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for source in wire.HERE.glob("*.[ch]"):
        shutil.copy(source, tmp_path)
    built = wire.library_path().name
    monkeypatch.setattr(wire, "HERE", tmp_path)
    assert wire.library_path().name == built

    with (tmp_path / changed).open("a") as file:
        file.write("\n")

    assert wire.library_path().name != built
