"""The edge: the one address that clients see. It forwards UDP between clients and transceivers and owns no media.

The data's way: `native` (by `wire`, compiled) or `portable` (by `io`) receives and sends datagrams in batches,
`router` decides where each one goes by its `flows`, `capture` keeps what the taps saw as raw rows of `owners`, `flush`
turns them into facts, `flowmap` keeps flows on disk, and `edge` is the loop around it all.
"""

from relay.edge.config import EdgeConfig, Limits
from relay.edge.edge import Counters, Edge
from relay.edge.sampling import Sampling

__all__ = ["Counters", "Edge", "EdgeConfig", "Limits", "Sampling"]
