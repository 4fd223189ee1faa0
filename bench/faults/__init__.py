"""Rounds of faults: kill, stop and starve the pipeline's processes, and hold what is stored against the sources.

oracle.py: what was handed over against base tables and every rollup. victim.py: a collector that dies where it is told,
and mutations that the oracle must catch. world.py: broker, store, producer. kinds.py: the faults. `python -m
bench.faults` runs seeded rounds of them.
"""
