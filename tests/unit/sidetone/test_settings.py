import json
import stat
from pathlib import Path

import pytest

from relay.ufrag import key_id_of
from sidetone.settings import EdgeSetting, Settings, SettingsError, load


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load().store_port == 8123
    (tmp_path / "sidetone.toml").write_text("store_port = 1001\napi_port = 2001\ndashboard_port = 3001\n")
    monkeypatch.setenv("SIDETONE_STORE_PORT", "1002")
    monkeypatch.setenv("SIDETONE_API_PORT", "2002")
    settings = load(store_port=1003, api_port=None)
    assert (settings.store_port, settings.api_port, settings.dashboard_port) == (1003, 2002, 3001)


def test_environment_of_a_child_gives_the_same_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edges = [EdgeSetting(name="a-1", region="a", port=1, internal_port=2)]
    settings = load(data_dir=tmp_path, edges=edges, ufrag_key="00" * 16, think_ms=12.5)
    for name, value in settings.as_environment().items():
        monkeypatch.setenv(name, value)
    assert load() == settings


def test_every_setting_says_what_it_is() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"store_port": 70_000}, "store_port"),
        ({"signalling_host": "example"}, "is not an IP address"),
        ({"store_host": "exa mple"}, "neither a host name nor an IP address"),
        ({"store_host": "10.0.0.256"}, "neither a host name nor an IP address"),
        ({"signalling_host": "0.0.0.0"}, "SIDETONE_TOKEN"),
        ({"edges": []}, "edges must be one or more"),
        ({"ufrag_key": "not hex"}, "openssl rand -hex 32"),
        ({"ufrag_key": "00ff"}, "shorter than 16 bytes"),
        ({"model": "parrot"}, "model"),
        ({"no_such_setting": 1}, "no_such_setting .* there is no such setting"),
    ],
)
def test_wrong_value_is_named_with_its_remedy(flags: dict[str, object], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        load(**flags)


def test_file_that_is_not_toml_is_named(tmp_path: Path) -> None:
    (tmp_path / "sidetone.toml").write_text("store_port = = 1")
    with pytest.raises(SettingsError, match=r"/sidetone\.toml is not TOML: .*line 1"):
        load()


def test_environment_value_that_is_not_json_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDETONE_EDGES", "eu-west")
    with pytest.raises(SettingsError, match=r"^SIDETONE_EDGES is not JSON: "):
        load()


def test_two_edges_of_one_name_are_refused() -> None:
    edge = {"name": "a-1", "region": "a", "port": 1, "internal_port": 2}
    with pytest.raises(SettingsError, match="a name of its own"):
        load(edges=json.loads(json.dumps([edge, edge])))


def test_unknown_edge_names_those_there_are() -> None:
    with pytest.raises(SettingsError, match="eu-west-1, us-east-1"):
        load().edge("mars-1")


def test_listening_beyond_loopback_is_allowed_with_a_token() -> None:
    assert load(signalling_host="0.0.0.0", token="s3cret").signalling_host == "0.0.0.0"


def test_ufrag_key_is_made_once_and_private(tmp_path: Path) -> None:
    settings = load(data_dir=tmp_path / "new")
    key = settings.ufrag_key_bytes()
    assert len(key) == 32
    assert settings.ufrag_key_bytes() == key
    assert stat.S_IMODE((tmp_path / "new" / "ufrag.key").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["ufrag.key"]


def test_data_dir_that_cannot_be_made_names_itself_and_the_flag(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"file/below cannot be written .*--data-dir"):
        load(data_dir=tmp_path / "file" / "below").make_data_dir()


def test_two_ufrag_keys_must_go_by_two_ids(tmp_path: Path) -> None:
    keys = [bytes([n]) * 32 for n in range(40)]
    same = next(key.hex() for key in keys[1:] if key_id_of(key) == key_id_of(keys[0]))
    other = next(key for key in keys[1:] if key_id_of(key) != key_id_of(keys[0]))
    current = keys[0].hex()
    assert load(data_dir=tmp_path, ufrag_key=current).ufrag_key_previous_bytes() is None
    both = load(data_dir=tmp_path, ufrag_key=current, ufrag_key_previous=other.hex())
    assert both.ufrag_key_previous_bytes() == other
    with pytest.raises(SettingsError, match=r"same key id.*openssl"):
        load(data_dir=tmp_path, ufrag_key=current, ufrag_key_previous=same).ufrag_key_previous_bytes()
    with pytest.raises(SettingsError, match="not hexadecimal"):
        load(data_dir=tmp_path, ufrag_key_previous="secret")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"endpointing": "model"}, "SIDETONE_OPENAI_TURN_DETECTION=server_vad"),
        ({"endpointing": "model", "model": "openai_realtime"}, "needs one that listens"),
        ({"endpointing": "transcript"}, "tells the user's words"),
        ({"endpointing": "transcript", "model": "openai_realtime"}, "SIDETONE_OPENAI_TRANSCRIPTION"),
    ],
)
def test_a_turn_cannot_be_ended_by_a_model_that_tells_nothing(flags: dict[str, object], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        load(**flags)


def test_asking_in_advance_does_not_take_the_turns_end_from_the_model() -> None:
    listens = {"endpointing": "model", "model": "openai_realtime", "openai_turn_detection": "server_vad"}
    with pytest.raises(SettingsError, match="SIDETONE_SPECULATE=on"):
        load(**listens, speculate="on")
    load(**{**listens, "endpointing": "silence"}, speculate="on")


def test_a_turn_can_be_ended_by_a_model_that_listens() -> None:
    load(endpointing="model", model="openai_realtime", openai_turn_detection="semantic_vad")
    load(endpointing="transcript", model="openai_realtime", openai_transcription="whisper-1")
    load(endpointing="transcript", model="my.models:Mine")
