"""The transceiver: the process that owns ICE, DTLS, SRTP, turn-taking and the bridge to the voice model.

The data's way: `wire` reads the one UDP socket, `demux` finds the session of a datagram, `ice` and `dtls` make and
guard the connection, `receive` turns RTP into frames of speech, `conversation` lets `voice.floor` decide and the model
answer, `send` turns the answer into RTP; `clock` ticks all of them every 20 ms and `facts` writes down what happened.
"""

from relay.transceiver.config import EdgeAddress, TransceiverConfig
from relay.transceiver.errors import BusyError, OfferError, UnknownRegionError
from relay.transceiver.transceiver import Answer, Transceiver

__all__ = [
    "Answer",
    "BusyError",
    "EdgeAddress",
    "OfferError",
    "Transceiver",
    "TransceiverConfig",
    "UnknownRegionError",
]
