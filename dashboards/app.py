"""Entry of the dashboards: `streamlit run dashboards/app.py`.

The store is where SIDETONE_STORE_HOST and SIDETONE_STORE_PORT say (127.0.0.1:8123 if unset), read as
SIDETONE_STORE_USER with SIDETONE_STORE_PASSWORD.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

# Less air above the page; and what a refresh has not reached yet must not fade, or a live page flickers.
_STYLE = """
<style>
.stMainBlockContainer { padding-top: 4.5rem; padding-bottom: 2rem; }
[data-stale="true"], [data-testid="stExpander"] summary { opacity: 1 !important; transition: none !important; }
</style>
"""

# A file of ours: a `:material/…:` icon would be fetched from the internet for the browser's tab.
st.set_page_config(page_icon=str(Path(__file__).with_name("favicon.svg")), layout="wide")
st.html(_STYLE)
# The folder is not called `pages`: Streamlit would serve its files by themselves, without this navigation.
st.navigation(
    [
        st.Page("views/overview.py", title="Overview", icon=":material/monitoring:", default=True),
        st.Page("views/session.py", title="Session", icon=":material/forum:", url_path="session"),
    ],
    position="top",
).run()
