import base64

import pytest

from sidetone.store.errors import StoreError
from sidetone.store.request import check_settings, claim_external, parse_request
from sidetone.store.sessions import Sessions


def code(query: bytes, **headers: str) -> int:
    with pytest.raises(StoreError) as caught:
        check_settings(parse_request("POST", query, headers))
    return caught.value.code


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_the_url_is_taken_apart() -> None:
    request = parse_request(
        "GET",
        b"query=SELECT+1&max_threads=2&param_a=x%27y&param_b=&session_id=s&query_id=q-1&database=d&wait_end_of_query=1"
        b"&send_progress_in_http_headers=1&t_format=CSV&t_structure=a+Int8",
        {"accept-encoding": "gzip", "authorization": basic("default", "")},
    )
    assert request.query == b"SELECT 1"
    assert request.params == {"a": "x'y", "b": ""}
    assert (request.session_id, request.query_id, request.database) == ("s", "q-1", "d")
    assert (request.wait, request.read_only) == (True, True)
    claim_external(request, {"t"})
    assert request.settings == {"max_threads": "2"}
    assert request.external == {"t": {"format": "CSV", "structure": "a Int8"}}


def test_compression_needs_its_setting_and_is_on_by_default() -> None:
    headers = {"accept-encoding": "gzip"}
    assert parse_request("POST", b"", headers).accept_encoding == "gzip"
    assert parse_request("POST", b"enable_http_compression=0", headers).accept_encoding == ""


@pytest.mark.parametrize(
    ("query", "headers", "expected"),
    [
        (b"", {"authorization": basic("default", "x")}, 516),
        (b"", {"authorization": "Bearer abc"}, 516),
        (b"", {"authorization": "Basic !"}, 516),
        (b"user=bob", {}, 516),
        (b"", {"x-clickhouse-user": "bob"}, 516),
        (b"", {"x-clickhouse-key": "secret"}, 516),
        (b"compress=1", {}, 48),
        (b"decompress=1", {}, 48),
        (b"role=admin", {}, 511),
        (b"session_id=a&session_timeout=4000", {}, 374),
        (b"session_id=a&session_timeout=x", {}, 374),
        (b"query_id=a%2A%2Fb", {}, 36),
        (b"default_format=a%20b", {}, 36),
        (b"a%20b=1", {}, 115),
        (b"param_a=%ff", {}, 36),
    ],
)
def test_what_is_not_understood_is_refused(query: bytes, headers: dict[str, str], expected: int) -> None:
    assert code(query, **headers) == expected


def test_a_session_expires_unless_used() -> None:
    now = [0.0]
    sessions = Sessions(lambda: now[0])
    session = sessions.acquire("a", 10, must_exist=False)
    with pytest.raises(StoreError) as caught:
        sessions.acquire("a", 10, must_exist=False)
    assert caught.value.code == 373
    now[0] = 60
    sessions.release(session, 10)
    now[0] = 69
    assert sessions.acquire("a", 10, must_exist=True) is session
    sessions.release(session, 10)
    now[0] = 80
    with pytest.raises(StoreError) as caught:
        sessions.acquire("a", 10, must_exist=True)
    assert caught.value.code == 372
    assert sessions.acquire("a", 10, must_exist=False) is not session
    assert sessions.sweep() == []
