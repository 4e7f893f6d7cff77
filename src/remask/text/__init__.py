"""Strings, at the border only: tokenizers, chat templates, and where a text ends."""
