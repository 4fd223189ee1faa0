"""What the benchmarks of turn-taking use.

`material` makes utterances with known ends, `stage` lets a floor hear them in virtual time.
"""
