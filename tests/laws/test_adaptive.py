"""Law 10: for one and the same state, a looser setting of an adaptive decoder accepts a superset. Trajectories carry no such promise."""

import pytest
import torch

import remask
from remask.denoise import Plan, start, step
from tests.chains import chain_b

MASK = 8
LOOSER = [
    ("threshold:tau=0.5", "threshold:tau=0.9"),
    ("threshold:tau=0.5", "threshold:tau=0.5,at_most=2"),
    ("factor:f=3", "factor:f=0.5"),
    ("entropy_bound:gamma=2", "entropy_bound:gamma=0.05"),
    ("risk:budget=0.4", "risk:budget=0.02"),
    ("risk:budget=0.3,last=0", "risk:budget=0.3,last=0,together=1"),
    ("risk:last=0.9", "risk:last=0"),
    ("risk:budget=0.3,last=0,left=1", "risk:budget=0.02,last=0,left=1"),
    ("klass:tau=0.5", "klass:tau=0.9"),
    ("klass:eps=1", "klass:eps=0.01"),
    ("local_leap:near=0.4", "local_leap:near=0.75"),
    ("local_leap:radius=6", "local_leap:radius=1"),
    ("hierarchy:tau=0.6", "hierarchy:tau=0.9"),
    ("credit:tau=0.5", "credit:tau=0.9"),
    ("joint_threshold:write_tau=0.4,edit_tau=0.9", "joint_threshold:write_tau=0.8,edit_tau=0.9"),
    ("starr:c_fast=0.8,c_slow=0.5", "starr:c_fast=0.95,c_slow=0.9"),
    ("wino:tau=0.4,check=0", "wino:tau=0.8,check=0"),
    ("dus:threshold=0.2", "dus:threshold=0.8"),
    ("spaced:inner=(threshold:tau=0.5)", "spaced:inner=(threshold:tau=0.9)"),
]


def states(plan, steps=5):
    """The states of a run that writes little at a time."""
    canvas = remask.Canvas.from_prompts([[0], [2, 2], [5, MASK, 1]], max_new_tokens=24, mask_id=MASK)
    state = start(canvas, plan, torch.tensor([3, 4, 5]))
    for _ in range(steps):
        yield state
        state = step(chain_b(), state, plan)[0]


@pytest.mark.parametrize("pair", LOOSER, ids="/".join)
def test_a_looser_setting_accepts_a_superset_of_any_one_state(pair):
    plans = [Plan(decoder=remask.parse_decoder(text)) for text in pair]
    more = 0
    for state in states(plans[1]):
        loose, tight = (step(chain_b(), state.fork(), plan)[1].edit.write for plan in plans)
        assert not (tight & ~loose).any()
        more += int(loose.sum() - tight.sum())
    assert more > 0, "the two settings differ"
