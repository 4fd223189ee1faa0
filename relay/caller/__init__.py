"""Synthetic callers: true WebRTC clients on impaired networks, whose own account of a call is the truth.

The way of a call: `script_file` and `library` (YAML) → `script` (what is said when) → `microphone` (Opus packets on an
absolute schedule) → `client` (aiortc: ICE, DTLS, SRTP) → `network` (loss, delay and jitter on real UDP sockets, each
drop counted) → the edge; and back through `network` → `ear` (statistics, jitter buffer, decoder, onset of the agent's
voice). `fleet` runs many calls at once and reports what every caller said and heard; `truth` grades the platform's
measurements against that.
"""

from relay.caller.catalogue import EVERYDAY, find, script_names
from relay.caller.fleet import CallReport, FleetConfig, FleetError, FleetReport, run_fleet, run_fleet_endlessly
from relay.caller.records import Answer, Utterance
from relay.caller.script import ScriptError

__all__ = [
    "EVERYDAY",
    "Answer",
    "CallReport",
    "FleetConfig",
    "FleetError",
    "FleetReport",
    "ScriptError",
    "Utterance",
    "find",
    "run_fleet",
    "run_fleet_endlessly",
    "script_names",
]
