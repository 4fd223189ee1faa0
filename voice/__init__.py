"""The science: what packets and speech mean, with no clock, no I/O and no unseeded randomness.

The way of a packet: `rtp` reads its header, `sequence` says what was lost, reordered or doubled (`reordering`, `losses`
and `bursts` describe it, `rtcp` reports it), `jitterbuffer` (with `delays`, `opus`) turns packets into 20 ms ticks of
playout, `vad` says which ticks are speech, and `floor` (with `speech`, `floor_table`, `turns`) whose turn it is.
`netem` (with `link`) spoils packets on purpose. Times are arguments in integer nanoseconds; randomness is seeded.
"""
