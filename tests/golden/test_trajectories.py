"""Nothing that a decoder or a reuse rule does changes unnoticed."""

import json

import pytest

from tests.golden.trajectories import FILE, cases, trajectory

STORED = json.loads(FILE.read_text(encoding="utf-8"))
CASES = cases()


@pytest.mark.parametrize("name", [name for name, stored in STORED.items() if stored is not None])
def test_a_trajectory_is_what_it_was(name):
    model, asked = CASES[name]
    assert trajectory(model, seed=STORED[name]["seed"], **asked) == STORED[name]["rows"], "if the change is meant: python -m tests.golden.trajectories"


def test_every_case_is_stored():
    assert set(CASES) == set(STORED), "new parts: python -m tests.golden.trajectories"
    assert sum(stored is None for stored in STORED.values()) < 10
