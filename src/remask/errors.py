"""The root of every error that remask raises on purpose."""


class RemaskError(ValueError):
    """Bad input: the message names the value and the remedy."""
