from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI

from relay.client_secrets import PATH, add_client_secrets
from relay.ephemeral import EphemeralKeys
from relay.models import ModelConfig
from relay.signalling import NESTING_MAX, is_own


def nested(levels: int) -> str:
    """Return a request of so many levels."""
    return '{"session":' + '{"a":' * (levels - 2) + "[]" + "}" * (levels - 2) + "}"


async def test_what_is_nested_too_deeply_is_refused_however_deep_it_is() -> None:
    """Some depths can be read, and not be written again with something around them."""
    app = FastAPI()
    add_client_secrets(app, ModelConfig("echo"), EphemeralKeys(bytes(32)), None)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://relay.test") as api:
        for levels in (NESTING_MAX + 1, *range(900, 1010)):
            assert (await api.post(PATH, content=nested(levels))).status_code == 400
        assert (await api.post(PATH, content=nested(NESTING_MAX))).status_code == 200


@pytest.mark.parametrize(
    ("bearer", "own", "same"),
    [("a", "a", True), ("a", "b", False), ("ä\udcff", "ä", False), ("ä", "ä", True), (None, None, False)],
)
def test_the_installations_own_token_is_known(bearer: str | None, own: str | None, same: bool) -> None:
    assert is_own(bearer, own) is same
