"""The contract: what a fact is, how facts are packed, and the log that keeps them.

The way of a fact: `schema` says what it looks like, `emitter` gathers facts into sorted chunks, `codec` packs a
chunk into bytes and back, `cloudevents` names it, and a backend of the `port` (`sqlite`) keeps it, in order, for
whoever subscribes.
"""
