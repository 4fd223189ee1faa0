"""A process that appends to a log for ever and prints each offset once the log has acknowledged it."""

import asyncio
import itertools
import sys

from eventlog import Record, SqliteEventLog, TopicPartition


async def main(path: str, name: str, size: int) -> None:
    log = SqliteEventLog(path)
    where = TopicPartition("topic", 0)
    for number in itertools.count():
        value = b"%s %d " % (name.encode(), number)
        offsets = await log.append([Record(where, value + bytes(size)), Record(where, value + b"second")])
        print(number, *offsets, flush=True)  # noqa: T201 - its parent reads it


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
