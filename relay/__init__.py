"""The voice relay: where calls pass and facts are born.

A client's UDP reaches an `edge`, which owns a flow table and nothing else and forwards to the `transceiver` that the
ICE ufrag names (`ufrag`, `encap`). The transceiver owns ICE, DTLS, SRTP, turn-taking and the bridge to a voice model
(`models`). `app` is the signalling by HTTP; `caller` holds synthetic callers that are real WebRTC clients.
"""
