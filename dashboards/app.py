"""Entry of the dashboards: `streamlit run dashboards/app.py`.

The store is where SIDETONE_STORE_HOST and SIDETONE_STORE_PORT say (127.0.0.1:8123 if unset).
"""

from __future__ import annotations

import streamlit as st

st.set_page_config(page_title="Sidetone", page_icon=":material/graphic_eq:", layout="wide")
st.navigation(
    [
        st.Page("pages/overview.py", title="Overview", icon=":material/monitoring:", default=True),
        st.Page("pages/session.py", title="Session", icon=":material/forum:", url_path="session"),
    ],
    position="top",
).run()
