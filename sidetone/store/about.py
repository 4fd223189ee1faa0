"""What the store is and is not, said once for `--help` and docs/store.md."""

ABOUT = """\
The embedded store: chDB, the ClickHouse engine inside this process, behind ClickHouse's HTTP interface, for one
machine. A ClickHouse client that speaks HTTP (clickhouse_connect, curl) uses it as it would a server.

What it does not do:
- Serve other machines, users or passwords: it listens on loopback, for the user `default` without a password.
  Whoever may connect has the rights of the process, files on this disk included (table function file()).
- Share its data directory: one process at a time.
- Replicate or distribute, or hold tables that consume a broker (ENGINE = Kafka and the like): refused.
- The native TCP protocol, TLS, progress headers while a query runs, ClickHouse's own block compression
  (compress=1), roles, quotas, INSERT ... SELECT FROM input(), INTO OUTFILE, FROM INFILE, several statements at once.
- client_protocol_version: blocks in Native format always come without block information; clients notice by themselves.
- Give queries the id of their client inside the engine: system.processes shows ids of chDB's own. The response header
  and KILL QUERY WHERE query_id = ... do go by the client's id. There are no system log tables (system.query_log).
- Survive power loss with certainty: what was acknowledged survives SIGKILL; for more, set fsync_after_insert=1 on the
  tables.
- Take requests over 1 GiB, statements over 256 KiB, or more than 256 queries at once.
"""
