"""How a Kafka group shares its partitions: in turn, unless a member asks to be alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

_ALONE: Final = b"alone"


class SharingAssignor(RoundRobinPartitionAssignor):  # type: ignore[misc]  # aiokafka's has no types
    """Partitions in turn to all members, or all to the one that asks to be alone (the first of them by id)."""

    name = "sidetone"

    @classmethod
    def assign(
        cls, cluster: Any, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """Share the partitions out; called in the member that leads the group."""
        alone = sorted(member for member, metadata in members.items() if metadata.user_data == _ALONE)
        if not alone:
            return dict(super().assign(cluster, members))
        nothing = ConsumerProtocolMemberAssignment(cls.version, [], b"")
        return {**dict.fromkeys(members, nothing), **super().assign(cluster, {alone[0]: members[alone[0]]})}


class AloneAssignor(SharingAssignor):
    """The same, of a member that asks to be alone."""

    @classmethod
    def metadata(cls, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """Return what the leading member is told."""
        return ConsumerProtocolMemberMetadata(cls.version, list(topics), _ALONE)
