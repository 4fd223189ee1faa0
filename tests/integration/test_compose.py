import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import clickhouse_connect
import httpx
import pytest
from opentelemetry.sdk import environment_variables as opentelemetry_variables

from sidetone.settings import Settings
from sidetone.store.process import StoreProcess
from tests.integration import compose_tools as tools
from tests.integration.store_gate import gate, users

CLICKHOUSE = tools.ROOT / "deploy" / "clickhouse"


def ours(services: dict[str, Any]) -> list[str]:
    return [name for name, service in services.items() if service["image"].startswith(tools.IMAGE)]


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = tools.interpolated(tools.as_written(), tools.secrets())["services"]
    return found


def test_file_conforms_to_the_compose_specification(services: dict[str, Any], tmp_path: Path) -> None:
    filled_in = tmp_path / "compose.json"
    filled_in.write_text(json.dumps({"services": services}))
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    checked = subprocess.run(
        [*check, tools.ROOT / "compose.yaml", filled_in], check=False, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout


def test_images_are_pinned_and_the_file_has_no_version(services: dict[str, Any]) -> None:
    assert "version" not in tools.as_written()
    for service in services.values():
        assert re.search(r":\d+\.\d+", service["image"]), service["image"]
    dockerfile = (tools.ROOT / "Dockerfile").read_text()
    assert all(
        re.search(r":\d+\.\d+|:\$\{PYTHON}", image) for image in re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)
    )


def test_every_service_is_checked_and_waits_for_what_it_needs(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["healthcheck"]["test"][0] == "CMD", name
        for needed, how in service.get("depends_on", {}).items():
            assert needed in services
            assert how == {"condition": "service_healthy"}


def test_only_the_dashboard_is_open_to_the_network_and_asks_for_the_token(services: dict[str, Any]) -> None:
    open_to_all = {
        name
        for name, service in services.items()
        for port in service.get("ports", ())
        if not port.startswith("127.0.0.1:")
    }
    assert open_to_all == {"dashboard"}
    assert services["dashboard"]["environment"]["SIDETONE_TOKEN"]


def test_nothing_starts_without_secrets() -> None:
    given = tools.secrets()
    assert len(set(given.values())) == len(given) == 4
    for name in given:
        with pytest.raises(tools.MissingVariableError, match=f"{name} make the secrets with deploy/make-env"):
            tools.interpolated(tools.as_written(), {**given, name: ""})


def test_variables_of_our_containers_are_settings(services: dict[str, Any]) -> None:
    """A name that is misspelt would be passed over without a word."""
    known = {f"SIDETONE_{name.upper()}" for name in Settings.model_fields}
    known |= {value for name, value in vars(opentelemetry_variables).items() if name.startswith("OTEL_")}
    for name in ours(services):
        assert set(services[name]["environment"]) <= known, name


def test_docs_name_every_service_and_every_variable_of_the_file(services: dict[str, Any]) -> None:
    docs = (tools.ROOT / "docs" / "deployment.md").read_text()
    variables = re.findall(r"\$\{(\w+)", json.dumps(tools.as_written()))
    assert [name for name in (*services, *variables) if f"`{name}`" not in docs] == []


def test_our_containers_may_do_little(services: dict[str, Any]) -> None:
    for name in ours(services):
        service = services[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
    assert re.search(r"^USER \d+:\d+$", (tools.ROOT / "Dockerfile").read_text(), re.MULTILINE)


def test_image_has_all_our_packages() -> None:
    wheel = re.search(r"^packages = (\[.*\])$", (tools.ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert wheel
    wanted = {*json.loads(wheel[1]), "pyproject.toml", "uv.lock", "README.md", "LICENSE"}
    lines = (tools.ROOT / ".dockerignore").read_text().splitlines()
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == wanted


def test_users_of_clickhouse_are_written_as_the_engine_reads_them(services: dict[str, Any], tmp_path: Path) -> None:
    """Grants parse, settings exist, and passwords come from variables that the container has."""
    root = ET.parse(CLICKHOUSE / "users.xml").getroot()
    ET.parse(CLICKHOUSE / "config.xml")
    known = users(CLICKHOUSE / "users.xml", services["clickhouse"]["environment"])
    assert set(known) == {"sidetone_writer", "sidetone_reader"}
    named = {
        setting.tag for path in ("./profiles/*/*", "./profiles/*/constraints/*") for setting in root.iterfind(path)
    }
    with StoreProcess(tmp_path) as store:
        engine = clickhouse_connect.get_client(host=store.host, port=store.port)
        for grant in root.iterfind("./users/*/grants/query"):
            # In this file a grant does not say whom to; that is where it stands.
            engine.query("SELECT formatQuery({grant:String})", {"grant": f"{grant.text} TO someone"})
            assert (grant.text or "").endswith(" ON sidetone.*")
        found = {row[0] for row in engine.query("SELECT name FROM system.settings").result_rows}
    reader = root.find("./users/sidetone_reader/grants/query")
    assert reader is not None
    assert reader.text == "GRANT SHOW, SELECT ON sidetone.*"
    assert named - {"constraints"} <= found
    for name, service in services.items():
        if user := service.get("environment", {}).get("SIDETONE_STORE_USER"):
            assert service["environment"]["SIDETONE_STORE_PASSWORD"] == known[user], name


@pytest.mark.timeout(300)
async def test_services_run_as_the_file_says_and_a_call_arrives_in_the_tables(
    services: dict[str, Any], tmp_path: Path
) -> None:
    here = tools.Here(services, tmp_path)
    token = services["dashboard"]["environment"]["SIDETONE_TOKEN"]
    known = users(CLICKHOUSE / "users.xml", services["clickhouse"]["environment"])
    containers = {name: tools.Container(name, here) for name in ours(services)}
    with tools.kafka(here), StoreProcess(tmp_path / "store") as store:
        store_url = f"http://{store.host}:{store.port}"
        async with (
            gate(here.port("clickhouse", 8123), store_url, known) as asked,
            httpx.AsyncClient(timeout=30, headers={"Authorization": f"Bearer {token}"}) as http,
        ):
            try:
                await tools.answers(here.port("kafka", 9092))
                await tools.up(list(containers.values()), {"kafka", "clickhouse"})
                session = await call(here.port("transceiver", 8080), token)
                api = f"http://127.0.0.1:{here.port('api', 8090)}/v1/questions"
                await stored(http, api, session)
                await log_in_is_needed(f"http://127.0.0.1:{here.port('dashboard', 8501)}", token)
                for name, port in (("edge-eu-west", 8092), ("collector", 8091), ("transceiver", 8080)):
                    await metrics_need_the_token(f"http://127.0.0.1:{here.port(name, port)}/metrics", token)
                for first in (("transceiver", "edge-eu-west", "edge-us-east", "edge-ap-south"), ("collector",)):
                    assert set(await asyncio.gather(*(containers[name].stop() for name in first))) == {0}
                facts = await answer(http, api, "facts")
                assert all(row["rows"] == row["distinct_rows"] for row in facts)
                assert {row["fact_type"] for row in facts if row["rows"]} >= {"packet", "turn", "session", "emitter"}
                assert set(await asyncio.gather(*(containers[name].stop() for name in ("api", "dashboard")))) == {0}
            finally:
                for container in containers.values():
                    container.kill()
    assert set(asked) == {"sidetone_writer", "sidetone_reader"}


async def call(port: int, token: str) -> str:
    """Call by another region than the first and return the session's id."""
    calling = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sidetone", "call", "simple", "--seconds", "8", "--region", "us-east", "--json"),
        *("--url", f"http://127.0.0.1:{port}"),
        env={"SIDETONE_TOKEN": token},
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await calling.communicate()
    (report,) = json.loads(said)["calls"]
    assert report["error"] is None
    assert report["answers"]
    return str(report["session_id"])


async def answer(http: httpx.AsyncClient, api: str, question: str) -> list[dict[str, Any]]:
    said = (await http.get(f"{api}/{question}")).raise_for_status().json()
    return [dict(zip((column["name"] for column in said["columns"]), row, strict=True)) for row in said["rows"]]


async def stored(http: httpx.AsyncClient, api: str, session: str) -> None:
    """Wait until the API shows the call from its first fact to its last."""
    while True:
        calls = await answer(http, api, "sessions")
        if any(call["session_id"] == session and call["ended_ns"] for call in calls):
            return
        await asyncio.sleep(0.3)


async def metrics_need_the_token(url: str, token: str) -> None:
    async with httpx.AsyncClient(timeout=30) as http:
        assert (await http.get(url)).status_code == 401
        shown = await http.get(url, headers={"Authorization": f"Bearer {token}"})
    assert (shown.status_code, "sidetone_" in shown.text) == (200, True)


async def log_in_is_needed(dashboard: str, token: str) -> None:
    async with httpx.AsyncClient(headers={"Accept": "text/html"}) as browser:
        assert (await browser.get(dashboard)).status_code == 401
        assert (await browser.post(f"{dashboard}/login", data={"token": "wrong"})).status_code == 401
        assert (await browser.post(f"{dashboard}/login", data={"token": token})).status_code == 303
        assert "streamlit" in (await browser.get(dashboard)).raise_for_status().text.lower()
