"""Watching a decode: readers of its steps."""
