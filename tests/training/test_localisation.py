"""Training a DSL network: the corruption's laws, and a run that starts from an MDLM one."""

from dataclasses import replace

import pytest
import torch

import remask
from remask import RemaskError
from remask.canvas import Canvas
from remask.continuous import decode_sde, log_normal
from remask.training.data import Batch
from remask.training.localisation import Localisation, log_normal_snr, roar_snr
from remask.training.objectives import Localising
from remask.training.run import Recipe, Run, train
from remask.training.shards import read_shards
from remask.training.vocabulary import characters, write_tokenizer
from tests.models.test_dsl import CONFIG, PLAIN
from tests.training.test_run import Counting, corrupt

GENERATOR = torch.Generator().manual_seed(0)
ALL = torch.ones(4000, 5, dtype=torch.bool)

MASKED = Recipe(
    name="counting",
    config=PLAIN,
    source=lambda device, stream, size: Counting(),
    corrupt=corrupt,
    write_tokenizer=lambda folder: write_tokenizer(characters("0123456789"), folder),
    steps=60,
    warmup=10,
    decay=0.9,
    save_every=10**6,
)
LOCALISED = replace(MASKED, name="counting_dsl", config=CONFIG, corrupt=Localisation(16, mu=1.4, sigma=0.9), objective=Localising(), steps=150)


def quick(folder, recipe, **more):
    lines = []
    return train(recipe, folder, compiled=False, every=20, report=lines.append, **more), lines


def test_random_orders_show_every_count_and_every_position_alike():
    snr = roar_snr(ALL, GENERATOR)
    assert set(snr.unique().tolist()) == {0.0, 100.0}
    counts = (snr > 0).sum(1).bincount(minlength=6) / 4000
    torch.testing.assert_close(counts, torch.tensor([0.2] * 5 + [0.0]), atol=0.03, rtol=0)
    torch.testing.assert_close((snr > 0).float().mean(0), torch.full((5,), 0.4), atol=0.03, rtol=0)


def test_smooth_endpoints_are_near_the_hard_ones():
    snr = roar_snr(ALL, GENERATOR, smooth=True)
    known = snr > 1
    assert 79.9 < float(snr[known].min()) < 81 < 99 < float(snr.max()) <= 100
    assert 0.95 < float(snr[~known].max()) < 1
    assert float(known.float().mean()) == pytest.approx(0.4, abs=0.02)


def test_log_normal_snrs_have_their_median_one_a_row_or_one_a_position():
    row = log_normal_snr(ALL.shape, GENERATOR, mu=1.4, sigma=0.9)
    assert (row == row[:, :1]).all()
    assert float(row[:, 0].log().mean()) == pytest.approx(1.4, abs=0.06)
    assert float(row[:, 0].log().std()) == pytest.approx(0.9, abs=0.05)
    token = log_normal_snr(ALL.shape, GENERATOR, mu=1.4, sigma=0.9, per_token=True, most=5.0)
    assert (token != token[:, :1]).any()
    assert float(token.max()) == 5.0


def test_the_mixture_has_its_share_and_leaves_the_prompt_known():
    eligible = (torch.arange(8) > 2).expand(40, -1)
    snr, noise = Localisation(16)(Batch(torch.zeros(40, 8, dtype=torch.int64), eligible), GENERATOR)
    assert (snr[:, :3] == 100).all()
    assert all(set(row.unique().tolist()) <= {0.0, 100.0} for row in snr[:10, 3:])
    assert all(len(row.unique()) == 1 for row in snr[10:, 3:])
    assert noise.shape == (40, 8, 16)
    assert float(noise.std()) == pytest.approx(1, abs=0.05)
    with pytest.raises(RemaskError, match="share"):
        Localisation(16, roar=2)


def test_the_loss_is_the_plain_mean_over_what_may_be_masked():
    batch = Batch(torch.zeros(1, 3, dtype=torch.int64), torch.tensor([[False, True, True]]))
    assert Localising().reduce(torch.tensor([[9.0, 1.0, 4.0]]), batch, ()) == pytest.approx(2.5)
    assert Localising().reduce(torch.tensor([[9.0, 1.0, 4.0]]), replace(batch, weights=torch.tensor([[1.0, 3.0, 1.0]])), ()) == pytest.approx(7 / 4)


def test_every_parameter_moves_and_the_codes_keep_norm_one(tmp_path):
    run = Run(LOCALISED, tmp_path, init=None, device="cpu", compiled=False)
    before = {name: parameter.clone() for name, parameter in run.model.named_parameters()}
    for batch in run.batches(6):
        run.learn(batch)
        assert (run.model.codes.norm(dim=-1) - 1).abs().max() < 1e-6
    assert [name for name, parameter in run.model.named_parameters() if torch.equal(parameter, before[name])] == []
    assert (run.averaged().codes.norm(dim=-1) - 1).abs().max() < 1e-6
    run.save()
    assert (remask.load(tmp_path / "checkpoint").codes.norm(dim=-1) - 1).abs().max() < 1e-6


def test_a_dsl_run_from_mdlm_learns_and_decodes_both_ways(tmp_path):
    start, _ = quick(tmp_path / "mdlm", MASKED)
    begun = Run(LOCALISED, tmp_path / "begun", init=start, device="cpu", compiled=False).model.state_dict()
    stored = read_shards(start)
    assert all(torch.equal(begun[name], tensor.float()) for name, tensor in stored.items() if ".output_layer.linear." not in name)
    checkpoint, lines = quick(tmp_path / "dsl", LOCALISED, init=start)
    assert lines[-1]["loss"] < 0.6 * lines[0]["loss"]
    model = remask.load(checkpoint, dtype="float32")
    expected = [4, 5, 6, 7, 8, 9, 0, 1]
    assert remask.decode(model, [[4]], max_new_tokens=7, decoder=remask.Threshold(0.9)).tokens[0].tolist() == expected
    canvas = Canvas.from_prompts([[4]], max_new_tokens=7, mask_id=model.mask_id)
    assert decode_sde(model, canvas, grid=log_normal(16, 1.4, 0.9)).tokens[0].tolist() == expected


def test_a_dsl_run_that_stopped_ends_with_the_weights_of_one_that_did_not(tmp_path):
    recipe = replace(LOCALISED, steps=8)
    quick(tmp_path / "whole", recipe)
    run = Run(recipe, tmp_path / "parts", init=None, device="cpu", compiled=False)
    for batch in run.batches(5):
        run.learn(batch)
    run.save()
    quick(tmp_path / "parts", recipe)
    whole, parts = (read_shards(tmp_path / name / "state") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
