"""Relays for `bench.edge`: `load` is what they carry, `contenders` starts them, `serve` runs in their processes."""
