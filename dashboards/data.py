"""Questions of a page: asked once for all who look at the same thing, with failures in words."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from typing import Any, Final

import streamlit as st

from analytics import Answer, Pool, QuestionError, run

_FRESH_S: Final = 5
_KEPT: Final = 200


def store_address() -> tuple[str, int]:
    """Return host and port of the store."""
    return os.environ.get("SIDETONE_STORE_HOST", "127.0.0.1"), int(os.environ.get("SIDETONE_STORE_PORT", "8123"))


def _credentials() -> tuple[str, str]:
    """Return user and password; not arguments of what is cached, whose keys Streamlit keeps."""
    return os.environ.get("SIDETONE_STORE_USER", "default"), os.environ.get("SIDETONE_STORE_PASSWORD", "")


@st.cache_resource
def _pool(host: str, port: int) -> Pool:
    return Pool(host, port, *_credentials())


@st.cache_data(ttl=_FRESH_S, max_entries=_KEPT, show_spinner=False)
def _answer(host: str, port: int, name: str, params: Mapping[str, Any]) -> Answer:
    with _pool(host, port).one() as client:
        return run(client, name, params)


def ask(name: str, **params: Any) -> Answer:
    """Ask one question of the store; `from_` stands for `from`.

    Raises:
        QuestionError: there is no answer; the message says why and what to do.

    """
    return _answer(*store_address(), name, {key.rstrip("_"): value for key, value in params.items()})


def guarded(show: Callable[[], None]) -> None:
    """Show part of a page; if the store is away, say so and how to get it back, and leave the rest of the page be.

    The first time that an address is shown the page says that it waits; a refresh must not flicker.
    """
    address = st.query_params.to_dict()
    first = st.session_state.get("shown") != address
    try:
        with st.spinner("Asking the store …") if first else contextlib.nullcontext():
            show()
        st.session_state["shown"] = address
    except QuestionError as error:
        st.error(str(error), icon=":material/cloud_off:", title="No answer from the store")
        st.button("Try again", icon=":material/refresh:", key=f"retry-{show.__name__}")
