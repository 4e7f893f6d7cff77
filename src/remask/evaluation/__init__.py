"""Measuring decoders: tasks with exact answers, the harness, intervals, frontiers."""

from remask.evaluation import tasks as tasks
