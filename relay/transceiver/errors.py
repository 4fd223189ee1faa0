"""What goes wrong before a call exists. Each message is fit to be shown to the person who tried to call."""

from __future__ import annotations


class OfferError(ValueError):
    """The SDP offer cannot be answered: it is malformed, or offers nothing that a voice call can use."""


class UnknownRegionError(ValueError):
    """No edge serves the region that was asked for."""


class BusyError(RuntimeError):
    """The transceiver holds as many sessions as it may; try again, or elsewhere."""
