"""Measuring decoders: tasks with exact answers, and the harness that runs them."""
