"""Calls made by hand, a minute each, whose answers to questions were worked out by hand."""

from __future__ import annotations

from tests.integration.stored_calls import SECOND, T0_NS, Call, Facts


class Calls:
    """Hand-made calls by name; each lives in a minute of its own."""

    def __init__(self) -> None:
        self.facts = Facts()
        self.by_name: dict[str, Call] = {}

    def new(self, name: str, region: str = "eu-west") -> Call:
        number = len(self.by_name) + 1
        call = Call(self.facts, number, region, T0_NS + number * 60 * SECOND)
        call.step("offered", 0, client="by-hand")
        self.by_name[name] = call
        return call


def _answers(calls: Calls) -> None:
    call = calls.new("good")
    call.exchange(1, 1000, 3000, 3800, 5000)
    call.exchange(2, 6000, 7000, 7900, 9000)
    call.step("closed", 9500, "hangup", who="client")

    call = calls.new("agent_cut_user in a pause")
    call.user(1, 1000, 2000)
    call.turn(1, "endpoint_decided", 2500, actor="system", silence_ms=500.0)
    call.agent(1, 2800, 3600, "yielded")
    call.user(2, 3200, 5000)
    call.turn(2, "endpoint_decided", 5500, actor="system", silence_ms=500.0)
    call.agent(2, 6000, 8000)
    call.step("closed", 8100, "hangup", who="client")

    call = calls.new("agent_cut_user while speaking")
    call.user(1, 1000, 3000)
    call.agent(1, 2600, 2900, "yielded")
    call.step("closed", 3200, "hangup", who="client")

    call = calls.new("agent_cut_user after a breath")
    call.user(1, 1000, 2000)
    call.turn(1, "endpoint_decided", 2500, actor="system", silence_ms=500.0)
    call.user(1, 2600, 4000)
    call.agent(1, 2700, 3000, "yielded")
    call.step("closed", 4200, "hangup", who="client")

    call = calls.new("late_response")
    call.exchange(1, 1000, 2000, 4700, 6000)  # 2700 ms: late, and short of dead air
    call.step("closed", 6500, "hangup", who="client")

    call = calls.new("missed_response by silence")
    call.user(1, 1000, 2000)
    call.turn(1, "response_requested", 2500)
    call.packet("edge_up", 1, 9000)  # the call is known to have lasted to here
    call.packet("edge_up", 2, 9900)

    call = calls.new("missed_response by words")
    call.user(1, 1000, 2000)
    call.turn(1, "endpoint_decided", 2500, actor="system", silence_ms=500.0)
    call.turn(1, "endpoint_revoked", 4700, actor="system", silence_ms=2600.0)
    call.user(1, 4600, 5000)
    call.turn(1, "endpoint_decided", 5500, actor="system", silence_ms=500.0)
    call.agent(1, 5800, 7000)
    call.step("closed", 7100, "hangup", who="client")

    call = calls.new("going on is no missed response")
    call.user(1, 1000, 2000)
    call.turn(1, "endpoint_decided", 2500, actor="system", silence_ms=500.0)
    call.turn(1, "endpoint_revoked", 2900, actor="system", silence_ms=800.0)
    call.user(1, 2800, 4000)
    call.turn(1, "endpoint_decided", 4500, actor="system", silence_ms=500.0)
    call.agent(1, 4800, 6000)
    call.step("closed", 6100, "hangup", who="client")

    call = calls.new("too short to tell")
    call.user(1, 1000, 2000)
    call.step("closed", 3500, "hangup", who="client")


def _interruptions(calls: Calls) -> None:
    call = calls.new("false_barge_in")
    call.user(1, 1000, 2000)
    call.agent(1, 2600, 4300, "yielded")
    call.user(2, 4050, 4350)  # a cough of 300 ms
    call.step("closed", 6800, "hangup", who="client")

    call = calls.new("false_barge_in by a backchannel that outlasts the agent")
    call.user(1, 1000, 2000)
    call.agent(1, 2600, 4300, "yielded")
    call.user(2, 4100, 4700)
    call.agent(2, 5500, 7000)
    call.step("closed", 7500, "hangup", who="client")

    call = calls.new("barge-in in the answer's first second")
    call.user(1, 1000, 2000)
    call.agent(1, 3000, 3700, "yielded")
    call.user(2, 3550, 5600)  # after 1550 ms of silence: nobody's pause
    call.agent(2, 6200, 7000)
    call.step("closed", 7500, "hangup", who="client")

    call = calls.new("slow_yield")
    call.user(1, 1000, 2000)
    call.agent(1, 2600, 5250, "yielded")
    call.user(2, 4050, 5800)
    call.agent(2, 6400, 7000)
    call.step("closed", 7500, "hangup", who="client")

    call = calls.new("barge-in with a breath in it")
    call.user(1, 1000, 2000)
    call.agent(1, 2600, 4370, "yielded")
    call.user(2, 4050, 4340)
    call.user(2, 4600, 5800)
    call.agent(2, 6400, 7000)
    call.step("closed", 7500, "hangup", who="client")

    call = calls.new("a backchannel of the relay's that claims the floor")
    call.user(1, 1000, 2000)
    call.agent(1, 2600, 6000)
    call.user(2, 4000, 5300)
    call.turn(2, "backchannel", 4000, seen_ms=5500)
    call.step("closed", 6500, "hangup", who="client")

    call = calls.new("true barge-in")
    call.user(1, 1000, 2000)
    call.agent(1, 2600, 4300, "yielded")
    call.user(2, 4050, 5600)
    call.agent(2, 6200, 7000)
    call.step("closed", 7500, "hangup", who="client")


def _missed_interruptions(calls: Calls) -> None:
    call = calls.new("missed_barge_in")
    call.user(1, 1000, 2000)
    call.agent(1, 2600, 5000)
    call.user(2, 4000, 4400)  # 400 ms: a barge-in, too short for a talk-over
    call.agent(2, 5100, 6000)
    call.step("closed", 6500, "hangup", who="client")

    call = calls.new("talk_over")
    call.user(1, 1000, 2000)
    call.agent(1, 2600, 5000)
    call.user(2, 4300, 5900)  # overlaps by 700 ms; the agent ends by itself before the barge-in's limit
    call.agent(2, 6500, 7000)
    call.step("closed", 7500, "hangup", who="client")

    call = calls.new("backchannel")
    call.user(1, 1000, 2000)
    call.agent(1, 2600, 6000)
    call.user(2, 4000, 4700)
    call.turn(2, "backchannel", 4000, seen_ms=4600)
    call.step("closed", 6500, "hangup", who="client")


def _silences(calls: Calls) -> None:
    call = calls.new("dead_air of the user")
    call.exchange(1, 1000, 2000, 2600, 4000)
    call.exchange(2, 7500, 8000, 8600, 9000)
    call.step("closed", 9500, "hangup", who="client")

    call = calls.new("abandoned")
    call.user(1, 1000, 2000)
    call.step("closed", 4700, "hangup", who="client")

    call = calls.new("answers are the application's business")
    call.user(1, 1000, 2000)
    call.turn(1, "endpoint_candidate", 2200, actor="system", reason="application")
    call.user(1, 9000, 10000)
    call.turn(1, "endpoint_candidate", 10200, actor="system", reason="application")
    call.turn(1, "endpoint_decided", 12500, actor="system", reason="application")
    call.turn(1, "response_requested", 12600, reason="application")
    call.agent(1, 13000, 16000)  # 3 s after the words
    call.user(2, 14500, 15500)
    call.turn(2, "user_barged_in", 14500, actor="user", reason="application")
    call.turn(2, "endpoint_candidate", 15700, actor="system", reason="application")
    call.step("closed", 24000, "hangup", who="client")

    call = calls.new("ended by the operator")
    call.user(1, 1000, 2000)
    call.step("closed", 4700, "drain", who="operator")


ERRORS = {
    "good": [],
    "agent_cut_user in a pause": [("agent_cut_user", 1, 2800.0, 400.0)],
    "agent_cut_user while speaking": [("agent_cut_user", 1, 2600.0, -1600.0)],
    "agent_cut_user after a breath": [("agent_cut_user", 1, 2700.0, -100.0)],
    "late_response": [("late_response", 1, 2000.0, 2700.0)],
    "missed_response by silence": [("dead_air", 1, 2000.0, 7000.0), ("missed_response", 1, 2000.0, 7000.0)],
    "missed_response by words": [("missed_response", 1, 2000.0, 2600.0)],
    "going on is no missed response": [],
    "too short to tell": [],
    "false_barge_in": [("false_barge_in", 1, 4300.0, 300.0)],
    "false_barge_in by a backchannel that outlasts the agent": [("false_barge_in", 1, 4300.0, 600.0)],
    "barge-in in the answer's first second": [],
    "slow_yield": [("slow_yield", 1, 4050.0, 1200.0)],
    "barge-in with a breath in it": [],
    "a backchannel of the relay's that claims the floor": [
        ("missed_barge_in", 1, 4000.0, 2000.0),
        ("talk_over", 1, 4000.0, 1300.0),
    ],
    "true barge-in": [],
    "missed_barge_in": [("missed_barge_in", 1, 4000.0, 1000.0)],
    "talk_over": [("talk_over", 1, 4300.0, 700.0)],
    "backchannel": [],
    "dead_air of the user": [("dead_air", 1, 4000.0, 3500.0)],
    "abandoned": [("abandoned", 1, 2000.0, 2700.0)],
    "answers are the application's business": [("talk_over", 1, 14500.0, 1000.0), ("dead_air", 1, 16000.0, 8000.0)],
    "ended by the operator": [],
}
"""By call: kind, turn, when (ms since the call's start), value (ms)."""


def _client(calls: Calls) -> None:
    call = calls.new("client truth")
    call.exchange(1, 1000, 2000, 2800, 4000)
    values = {"turn": 1.0, "heard_delay_ms": 930.0, "playout_delay_ms": 40.0, "clock_offset_ms": 5000.0}
    values["clock_error_ms"] = 30.0
    call.add("client", 2950, client_ns=call.at(2890 - 5000), kind="playout", values=list(values.items()))
    call.exchange(2, 5000, 6000, 6800, 8000)
    del values["heard_delay_ms"]  # the client was speaking
    call.add("client", 6930, client_ns=call.at(6870 - 5000), kind="playout", values=list(values.items()))
    call.step("closed", 8500, "hangup", who="client")


def _network(calls: Calls) -> None:
    call = calls.new("network", "us-east")
    # 1, 2, (3, 4 missing), 5, 3 turns up late, 5 again: 5 received, 1 twice, 1 lost for good.
    call.packet("edge_up", 1, 100, transit_delta_us=None)
    call.packet("edge_up", 2, 120, transit_delta_us=1000)
    call.packet("edge_up", 5, 180, transit_delta_us=-3000, lost=2)
    call.packet("edge_up", 3, 190, transit_delta_us=2000, lost=-1, reordered=True)
    call.packet("edge_up", 5, 200, transit_delta_us=None, duplicate=True)
    call.packet("edge_down", 1, 1500, stream=2)
    for at, received, lost in ((1000, 50, 1), (6000, 300, 4)):
        values = {"packetsReceived": received, "packetsLost": lost, "jitterBufferDelay": received * 0.05 * 960}
        values["jitterBufferEmittedCount"] = received * 960
        call.add("client", at, kind="inbound-rtp", stream=2, values=[(k, float(v)) for k, v in values.items()])
    for at, rtt in ((1000, 40_000), (2000, 60_000), (3000, 50_000)):
        call.add("leg", at, leg="client_edge", method="stun", rtt_us=rtt)
    call.add("leg", 1000, leg="edge_transceiver", method="probe", rtt_us=10_000)
    ticks = ((0, "played", False, 100), (1, "discarded_late", False, 300), (2, "concealed", True, 200))
    for tick, kind, underrun, lateness in ticks:
        columns = {"tick": tick, "kind": kind, "underrun": underrun, "lateness_us": lateness}
        call.add("frame", 100 + tick * 20, mono_ns=tick, direction="in", stream=1, **columns)
    call.user(1, 1000, 2000)  # seen 100 ms after
    call.turn(1, "endpoint_decided", 2560, actor="system", silence_ms=500.0)
    call.turn(1, "response_requested", 2570)
    call.turn(1, "model_first_audio", 2870)
    call.agent(1, 2900, 4000)
    call.turn(2, "user_speech_started", 5000)
    call.turn(2, "user_speech_stopped", 6000)
    call.agent(2, 6400, 7000)  # no step between was recorded
    call.step("closed", 7500, "hangup", who="client")


def all_calls() -> Calls:
    """Return every call, in the order in which they began."""
    made = Calls()
    for make in (_answers, _interruptions, _missed_interruptions, _silences, _client, _network):
        make(made)
    return made
