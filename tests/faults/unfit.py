"""What this host or this checkout lacks for a storm: said plainly, and never taken for a pass."""


class UnfitError(RuntimeError):
    """The storm cannot be run here; the text says what is missing."""
