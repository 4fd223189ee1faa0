"""The embedded store: chDB, the ClickHouse engine in-process, behind ClickHouse's HTTP interface.

The way of a request: `app` receives it (`spool`), `request` takes it apart, `job` runs it in a thread (`encoding`
unpacks it, `lexer` and `statement` read its head, `sessions` lend it their connection, `engine` executes it), the
result comes back through a `pipe`, and `reply` sends it. `server` and `lock` are about starting and ending.
"""
