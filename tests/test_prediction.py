"""Beliefs by hand: three tokens with probabilities 0.5, 0.3, 0.2, in two orders."""

import math

import pytest
import torch

from remask import RemaskError
from remask.prediction import Belief, LeftOut, Prediction, Source, Summary, Unread, largest

LAWS = torch.tensor([[[0.5, 0.3, 0.2], [0.2, 0.3, 0.5]]])
ENTROPY = -sum(p * math.log(p) for p in (0.5, 0.3, 0.2))


def near(found, wanted):
    torch.testing.assert_close(found, torch.tensor(wanted), atol=1e-6, rtol=0)


def test_the_scores_of_a_belief():
    belief = Belief(LAWS.log() + 3, torch.tensor([[1, 2]]))
    near(belief.probabilities, LAWS.tolist())
    assert belief.token.tolist() == [[0, 2]]
    near(belief.top_two, [[[0.5, 0.3], [0.5, 0.3]]])
    near(belief.confidence, [[0.5, 0.5]])
    near(belief.sampled_confidence, [[0.3, 0.5]])
    near(belief.margin, [[0.2, 0.2]])
    near(belief.entropy, [[ENTROPY, ENTROPY]])
    near(belief.height, [[math.log(0.5) + 3] * 2])


@pytest.mark.parametrize("share", [0.0, 0.2, 0.9])
def test_scores_are_those_of_the_whole_where_they_are_asked_for(share):
    chance = torch.Generator().manual_seed(0)
    logits, candidates = torch.randn(3, 7, 11, generator=chance) * 4, torch.randint(11, (3, 7), generator=chance)
    asked = torch.rand(3, 7, generator=chance) < share
    whole = Prediction.of(logits, logits / 2, candidates)
    part = whole.at(asked)
    assert part.candidates is candidates
    assert whole.raw.asked is None
    for one, other in ((part.raw, whole.raw), (part.shaped, whole.shaped)):
        for name in ("confidence", "sampled_confidence", "margin", "entropy", "height", "top_two"):
            assert torch.equal(getattr(one, name)[asked], getattr(other, name)[asked]), name
        assert torch.equal(one.probabilities, other.probabilities)
        assert torch.equal(one.token, other.token)
    assert bool((part.raw.confidence[~asked] == 0).all()) == (share < 0.6), "taken out where they are few"
    same = Prediction.of(logits, logits, candidates).at(asked)
    assert same.raw is same.shaped


def test_a_belief_over_one_token_has_no_margin():
    assert Belief(torch.zeros(1, 2, 1), torch.zeros(1, 2).long()).margin.tolist() == [[0, 0]]


def test_what_is_left_out_supports_the_tokens_of_the_asked_places_only():
    """Row 0 asked for places 2 and 0, row 1 for place 1 alone: the rest of its list is filling."""
    asked = torch.tensor([[True, False, True], [False, True, False]])
    law = torch.tensor([0.5, 0.3, 0.2]).log()
    left_out = LeftOut(asked, torch.tensor([[2, 0], [1, 0]]), law.expand(2, 2, 3))
    near(left_out.support(torch.tensor([[2, 2, 1], [0, 0, 0]])), [[0.2, 1.0, 0.3], [1.0, 0.5, 1.0]])


def test_a_prediction_shares_one_belief_where_no_shaper_changed_it():
    logits, candidates = LAWS.log(), torch.tensor([[1, 2]])
    same, other = Prediction.of(logits, logits, candidates), Prediction.of(logits, logits * 2, candidates)
    assert same.raw is same.shaped
    assert same.candidates is candidates
    assert same.left_out is None
    near(other.raw.probabilities, LAWS.tolist())
    near(other.shaped.confidence, [[0.25 / 0.38, 0.25 / 0.38]])
    assert other.candidates is candidates


def test_a_summary_reads_as_the_belief_it_was_made_of():
    belief, calls = Belief(LAWS.log(), torch.tensor([[1, 2]])), []

    def source():
        calls.append(1)
        return belief.logits

    kept = (belief.token, belief.candidates, belief.confidence, belief.top_two[..., 1], belief.sampled_confidence, belief.entropy)
    summary = Summary(*kept, source=source)
    assert torch.equal(summary.top_two, belief.top_two)
    assert torch.equal(summary.margin, belief.margin)
    assert torch.equal(summary.probabilities, belief.probabilities)
    assert summary.logits is belief.logits
    assert calls == [1], "the logits are computed when asked for, and once"
    with pytest.raises(RemaskError, match="keeps no logits; to look at them pass the model itself"):
        Summary(*kept).logits  # noqa: B018


def test_one_asked_position_scores_as_it_does_among_others():
    """With a vocabulary so large that a single row would be added up in parts, by two threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for seed in range(10):
            logits = 3 * torch.randn(1, 3, 50_258, generator=torch.Generator().manual_seed(seed))
            asked = torch.tensor([[False, True, False]])
            whole, alone = Belief(logits, logits.argmax(-1)), Belief(logits, logits.argmax(-1)).at(asked)
            assert float(alone.entropy[0, 1]) == float(whole.entropy[0, 1])
            assert torch.equal(alone.top_two[0, 1], whole.top_two[0, 1])
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("count", [1, 2, 16])
@pytest.mark.parametrize("length", [16, 1024, 2047, 9001])
def test_the_largest_entries_are_those_of_a_sort(length, count):
    """Of 97 values only, so that the largest come many times; some of them behind the last whole part."""
    values = torch.randint(97, (2, 5, length), generator=torch.Generator().manual_seed(length)).float()
    values[0, 0, -1], values[1, 2, -3:] = 200.0, 300.0
    found, places = largest(values, count)
    assert torch.equal(found, values.sort(-1, descending=True).values[..., :count])
    assert torch.equal(values.gather(-1, places), found)
    assert all(len(set(row)) == count for row in places.flatten(0, 1).tolist())


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_the_likeliest_tokens_are_those_of_the_whole_where_they_are_asked_for(share):
    chance = torch.Generator().manual_seed(1)
    logits, asked = torch.randn(3, 7, 9001, generator=chance) * 4, torch.rand(3, 7, generator=chance) < share
    belief = Belief(logits, logits.argmax(-1))
    values, tokens = belief.at(asked).likeliest(16)
    wanted = belief.probabilities.topk(16, dim=-1)
    assert torch.equal(values[asked], wanted.values[asked])
    assert torch.equal(tokens[asked], wanted.indices[asked])
    assert bool((values[~asked] == 0).all()) == (share < 0.6)
    assert Belief(logits[..., :3], belief.candidates).likeliest(16)[1].shape == (3, 7, 3)


def test_more_likely_tokens_than_positions_may_be_asked_for():
    logits = torch.randn(1, 2, 9, generator=torch.Generator().manual_seed(0))
    number = torch.zeros(1, 2)
    beliefs = Belief(logits, logits.argmax(-1)), Summary(logits.argmax(-1), logits.argmax(-1), number, number, number, number, source=lambda: logits)
    for belief in beliefs:
        assert belief.likeliest(5)[1].tolist() == logits.topk(5).indices.tolist()


def test_what_is_read_at_places_is_made_once_for_both_beliefs_and_again_for_others():
    logits, made = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0)), []

    def make(place):
        made.append(place)
        found = logits if place is None else logits[place]
        return found, found, found.argmax(-1)

    source = Source(make)
    raw, shaped = Unread(source, 0), Unread(source, 1)
    asked = torch.tensor([[True, False, True], [False, True, False]])
    assert torch.equal(raw.at(asked).confidence, shaped.at(asked).confidence)
    assert [len(place[0]) for place in made] == [3]
    alone = torch.zeros_like(asked)
    alone[1, 1] = True
    assert raw.at(alone).token[1, 1] == logits[1, 1].argmax()
    assert [len(place[0]) for place in made] == [3, 2], "a single place is made twice, so that it is computed as one of many"
