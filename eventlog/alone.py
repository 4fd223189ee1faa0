"""A member of a group that owns everything: the others get nothing until it leaves.

On the SQLite log every member is alone, the newest. On Kafka members are shared out by an assignor of our own, which
gives all partitions to the member that asks to be alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from eventlog.port import EventLog, Subscription


def subscribe_alone(log: EventLog, group: str, topics: Sequence[str]) -> Subscription:
    """Return a member of `group` that owns all partitions of `topics` once it is entered."""
    from eventlog.kafka import KafkaEventLog  # noqa: PLC0415 - aiokafka is slow to import, and only Kafka needs it

    if isinstance(log, KafkaEventLog):
        from eventlog.kafka_group import KafkaSubscription  # noqa: PLC0415

        return KafkaSubscription(log.connection.arguments(), group, topics, alone=True)
    return log.subscribe(group, topics)
