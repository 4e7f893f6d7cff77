"""The causal judge: what it reads, what it says, and what it refuses."""

import math

import pytest
import torch

import remask
from remask import RemaskError
from remask.evaluation.text.judge import features, negative_log_likelihood, sample
from remask.evaluation.text.revision import corrupted, masked_calibration, revise
from remask.models.causal import Causal
from remask.shapers import Temperature, TopK
from remask.testing import MarkovDenoiser
from remask.training.shards import write_json, write_shards
from remask.training.vocabulary import characters, write_tokenizer

CONFIG = {
    "architectures": ["CausalJudge"], "hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 48, "vocab_size": 12, "max_length": 16,
    "eos_token_id": 10, "mask_token_id": 11,
}  # fmt: skip
TOKENS = torch.tensor([[0, 3, 9, 10, 7, 1], [2, 2, 5, 5, 1, 2]])


@pytest.fixture
def judge():
    torch.manual_seed(0)
    model = Causal(CONFIG)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval().requires_grad_(False)


def test_a_new_judge_knows_nothing():
    model = Causal(CONFIG).eval().requires_grad_(False)
    torch.testing.assert_close(negative_log_likelihood(model, TOKENS), torch.full((2, 6), math.log(11)))


def test_a_prediction_sees_what_is_before_it_and_nothing_else(judge):
    changed = TOKENS.clone()
    changed[:, 3] = 4
    before, after = judge.logits(TOKENS), judge.logits(changed)
    assert torch.equal(before[:, :4], after[:, :4]), "its own token and what follows are hidden"
    assert (before[:, 4:] - after[:, 4:]).abs().amax(-1).min() > 1e-3, "what follows depends on it"
    assert not torch.allclose(judge.logits(TOKENS.flip(1))[:, 5], before[:, 5])


def test_its_probabilities_are_of_all_tokens_but_the_mask(judge):
    """Over every row of two tokens they sum to 1."""
    rows = torch.cartesian_prod(torch.arange(11), torch.arange(11))
    total = (-negative_log_likelihood(judge, rows).double().sum(1)).exp().sum()
    assert float(total) == pytest.approx(1, abs=1e-5)


def test_samples_follow_its_law_and_their_seeds_alone(judge):
    rows = torch.cartesian_prod(torch.arange(11), torch.arange(11))
    law = (-negative_log_likelihood(judge, rows).double().sum(1)).exp()
    found = sample(judge, 6000, 2, seed=1)
    share = torch.bincount(found[:, 0] * 11 + found[:, 1], minlength=121) / 6000
    assert 0.5 * (share - law).abs().sum() < 0.07
    assert torch.equal(sample(judge, 3, 5, seed=[8, 1, 9])[1], sample(judge, 1, 5, seed=1)[0])
    assert torch.equal(sample(judge, 2, 6, seed=4, shapers=(Temperature(1.0), TopK(1))), sample(judge, 2, 6, seed=7, shapers=(TopK(1),)))
    assert (found < 11).all()


def test_features_tell_rows_apart_by_all_of_their_tokens(judge):
    changed = TOKENS.clone()
    changed[0, -1] = 4
    one, other = features(judge, TOKENS, batch=1), features(judge, changed)
    assert one.shape == (2, 32)
    assert not torch.allclose(one[0], other[0])
    torch.testing.assert_close(one[1], other[1])


def test_it_loads_like_any_checkpoint_and_will_not_decode(judge, tmp_path):
    write_json(tmp_path / "config.json", CONFIG)
    write_shards(tmp_path, dict(judge.named_parameters()))
    write_tokenizer(characters("0123456789"), tmp_path)
    loaded = remask.load(tmp_path)
    assert torch.equal(loaded.logits(TOKENS), judge.logits(TOKENS))
    with pytest.raises(RemaskError, match="cannot fill masks"):
        remask.decode(loaded, [[1]], max_new_tokens=3)
    with pytest.raises(RemaskError, match="whole rows"):
        loaded.logits(TOKENS, attention_mask=torch.tensor([[1] * 6, [1] * 5 + [0]]))
    with pytest.raises(RemaskError, match="num_heads"):
        Causal({**CONFIG, "num_heads": 5})
    with pytest.raises(RemaskError, match="no hidden_size"):
        Causal({**CONFIG, "hidden_size": None})
    with pytest.raises(RemaskError, match="made for 16"):
        sample(loaded, 1, 17)


class Reader(MarkovDenoiser):
    """The exact chain, with the tokens it is shown taken as evidence of weight `trust`: it can be told that a token is wrong."""

    device = torch.device("cpu")

    def __init__(self, trust):
        transition = torch.full((4, 4), 0.01, dtype=torch.float64)
        transition[torch.arange(4), (torch.arange(4) + 1) % 4] = 0.97
        super().__init__(torch.ones(4), transition)
        self.trust = trust

    def logits(self, tokens):
        shown = torch.nn.functional.one_hot(tokens.clamp(max=3), 4).double()
        evidence = torch.where((tokens < 4)[..., None], 1 + (self.trust - 1) * shown, 1.0)
        joint = self.leave_one_out(evidence) * evidence
        return torch.nn.functional.pad((joint / joint.sum(-1, keepdim=True)).log(), (0, 1), value=float("-inf"))


def test_wrong_tokens_are_as_many_as_asked_and_never_the_right_ones():
    tokens = torch.arange(40).expand(3, -1) % 4
    shown, wrong = corrupted(tokens, 0.3, 4, torch.tensor([5, 6, 7]))
    assert wrong.sum(1).tolist() == [12, 12, 12]
    assert torch.equal(shown != tokens, wrong)
    assert torch.equal(corrupted(tokens[1:2], 0.3, 4, torch.tensor([6]))[0], shown[1:2])
    assert (shown < 4).all()


def test_a_reader_that_weighs_its_evidence_corrects_and_one_that_believes_all_does_not():
    tokens = Reader(1).sample(64, 40)
    weighing, believing = (revise(Reader(trust), tokens, 0.1) for trust in (27.0, 1e12))
    assert float(weighing.fixed.mean()) > 0.9
    assert float(weighing.kept.mean()) > 0.98
    assert weighing.calibration < 0.02
    assert float(believing.fixed.mean()) == 0
    assert float(believing.kept.mean()) == 1
    assert believing.calibration == pytest.approx(0.1, abs=1e-6), "sure of everything and wrong a tenth of the time"


def test_exact_posteriors_are_calibrated_at_masks_and_sharpened_ones_are_not():
    class Sharp(Reader):
        def logits(self, tokens):
            return super().logits(tokens) * 4

    tokens = Reader(1).sample(400, 20)
    assert masked_calibration(Reader(1e12), tokens) < 0.02
    assert masked_calibration(Sharp(1e12), tokens) > 3 * masked_calibration(Reader(1e12), tokens)
