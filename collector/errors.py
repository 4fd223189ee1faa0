"""What stops a collector. Everything that passes by itself (a store or a log away) is retried instead."""

from __future__ import annotations


class CollectorHaltedError(Exception):
    """The collector stopped and needs a person. The message says what is wrong, where, and what to do.

    Nothing was passed over: what it was working on is loaded once the cause is removed.
    """


class PoisonError(CollectorHaltedError):
    """Too many messages in a row cannot be opened."""
