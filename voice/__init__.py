"""The science: what packets and speech mean, with no clock, no I/O and no unseeded randomness.

The way of a packet: `rtp` reads its header, `sequence` says what was lost, reordered or doubled, `losses` and
`bursts` describe the loss, `jitterbuffer` turns packets into 20 ms ticks of playout (`opus` looks into the payload),
`vad` says which ticks are speech, and `floor` (with `speech`, `floor_table`, `turns`) decides whose turn it is.
`netem` (with `link`) spoils packets on purpose, reproducibly. Times are arguments in integer nanoseconds; randomness is seeded.
"""
