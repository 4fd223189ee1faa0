"""A titled list on a page: what it says, or in words that there is nothing to list."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

Records = Sequence[dict[str, Any]]


def call_link(session_id: str) -> str:
    """Return where a call's page is; a column `call` shows it as the end of the id."""
    return f"session?session={session_id}"


def listing(
    title: str,
    records: Records,
    row: Callable[[dict[str, Any]], dict[str, Any]],
    *,
    caption: str,
    nothing: str,
    columns: Mapping[str, Any] | None = None,
) -> None:
    """Show one row for each record, in full height.

    Args:
        title: heading; none if empty.
        records: of an answer.
        row: column names and values of a record.
        caption: unit, scope and coverage of the numbers.
        nothing: said instead if there are no records.
        columns: Streamlit's configuration of columns that need one.

    """
    if title:
        st.markdown(f"#### {title}")
    if not records:
        st.caption(nothing)
        return
    st.caption(caption)
    link = st.column_config.LinkColumn("call", display_text=r"([0-9a-f]{8})$", width="small")
    st.dataframe(
        [row(record) for record in records],
        hide_index=True,
        height="content",
        column_config={"call": link} | dict(columns or {}),
    )
