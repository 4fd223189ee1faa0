"""A real Apache Kafka broker on this machine, for tests and for `--log kafka`: jars by Maven, one KRaft node.

`jars` fetches what it needs once; `process` runs it.
"""

from sidetone.broker.jars import BrokerUnavailableError, jars
from sidetone.broker.process import Broker

__all__ = ["Broker", "BrokerUnavailableError", "jars"]
