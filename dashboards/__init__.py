"""People look: two pages over the questions of `analytics`.

The way of a page: `state` reads what the address says, `data` asks the questions, `words` turns numbers into text,
`charts/` turns answers into chart options (pure functions), `listing` shows rows, and `views/` puts them together.
`app.py` is the entry.
"""
