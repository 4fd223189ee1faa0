"""Questions go to the store, over ClickHouse's HTTP interface, and come back as answers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from analytics.answer import Answer
from analytics.errors import StoreUnavailableError, reason
from analytics.parameters import bind
from analytics.question import question

LIMITS: Final[dict[str, Any]] = {
    "readonly": 2,  # reads only; 2 and not 1, because a question sets join_use_nulls for itself
    "max_execution_time": 30,  # s
    "max_result_rows": 1_000_000,
    "result_overflow_mode": "throw",
}
"""Settings of every question: it cannot write, run away, or answer more than a client can hold."""


def connect(host: str, port: int, user: str = "default", password: str = "") -> Client:
    """Return a client of the store, for one thread at a time.

    Raises:
        StoreUnavailableError: nothing answers there.

    """
    try:
        return clickhouse_connect.get_client(
            host=host,
            port=port,
            username=user,
            password=password,
            settings=LIMITS,
            connect_timeout=5,
            send_receive_timeout=60,
            autogenerate_session_id=False,
        )
    except (ClickHouseError, OSError) as error:
        raise StoreUnavailableError(
            f"no store answers at {host}:{port} ({reason(error)}); start it with `sidetone up` or "
            "`sidetone store`, or set SIDETONE_STORE_HOST and SIDETONE_STORE_PORT to where it is"
        ) from error


def check(name: str, params: Mapping[str, Any]) -> None:
    """Say what is wrong with a question, without asking the store.

    Raises:
        UnknownQuestionError: there is no such question.
        BadParameterError: a parameter is unknown, missing or not of its type.

    """
    bind(question(name), params, time.time_ns())


def run(client: Client, name: str, params: Mapping[str, Any] | None = None, *, now_ns: int | None = None) -> Answer:
    """Ask one question.

    Args:
        client: from `connect`.
        name: one of `questions()`.
        params: values by name; those left out take their defaults. Times may be integer nanoseconds, datetimes,
            ISO 8601 text or `now-1h`; lists may be comma-separated text.
        now_ns: what `now` in a time means; the clock's by default.

    Raises:
        UnknownQuestionError: there is no such question.
        BadParameterError: a parameter is unknown, missing or not of its type.
        StoreUnavailableError: the store is away or refused the question.

    """
    asked = question(name)
    bound = bind(asked, params or {}, time.time_ns() if now_ns is None else now_ns)
    try:
        result = client.query(asked.sql, parameters=bound)
    except (ClickHouseError, OSError) as error:
        raise StoreUnavailableError(f"the store did not answer {name}: {reason(error)}") from error
    names = tuple(column.name for column in asked.columns)
    # An answer without rows comes without a block, and so without column names.
    if result.column_names and tuple(result.column_names) != names:
        raise AssertionError(f"{name}.sql gives {result.column_names}, its header says {names}")
    return Answer(name, asked.title, asked.columns, [tuple(row) for row in result.result_rows], bound)
