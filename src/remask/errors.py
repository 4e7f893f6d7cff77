"""The root of every error that remask raises on purpose, and the remedy that several of them name."""

INSTEAD = "pass the model itself (leave out --captured)"
"""What to do about what cannot be decoded in recorded passes."""


class RemaskError(ValueError):
    """Bad input: the message names the value and the remedy."""
