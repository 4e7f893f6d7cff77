"""A training run: it learns, it may stop anywhere, and what it leaves can be loaded."""

import itertools
import random
from dataclasses import replace

import pytest
import torch

import remask
from remask import RemaskError
from remask.training.average import Average
from remask.training.corruption import antithetic_times, mask_randomly, mask_suffix
from remask.training.data import Batch, Rows, encode_pairs, pad_rows, write_rows
from remask.training.objectives import Unmasking, cross_entropy, reduce
from remask.training.optimizer import Muon, orthogonalise
from remask.training.run import Recipe, Run, World, build, rate_at, train
from remask.training.shards import read_shards, replace_folder, write_shards
from remask.training.vocabulary import characters, write_tokenizer

CONFIG = {
    "architectures": ["LLaDAModelLM"], "d_model": 32, "n_layers": 2, "n_heads": 4, "mlp_hidden_size": 48, "vocab_size": 12, "max_sequence_length": 16,
    "rope": True, "rope_theta": 10000.0, "rms_norm_eps": 1e-5, "mask_token_id": 11, "eos_token_id": 10,
}  # fmt: skip


class Counting:
    """Rows that count upwards from a random digit."""

    def batch(self, step: int) -> Batch:
        start = torch.tensor([random.Random(step * 100 + row).randrange(10) for row in range(16)])
        tokens = (start[:, None] + torch.arange(8)) % 10
        return Batch(tokens, (torch.arange(8) > 0).expand(16, -1))


def corrupt(batch, generator):
    times = antithetic_times(len(batch.tokens), generator)
    return mask_randomly(batch.eligible, times, generator), times


RECIPE = Recipe(
    name="counting",
    config=CONFIG,
    source=lambda device, stream, size: Counting(),
    corrupt=corrupt,
    write_tokenizer=lambda folder: write_tokenizer(characters("0123456789"), folder),
    steps=200,
    warmup=10,
    decay=0.9,
    save_every=10**6,
)


def quick(folder, recipe=RECIPE, **more):
    return train(recipe, folder, compiled=False, every=20, **more)


def test_a_run_learns_and_its_checkpoint_solves_the_task(tmp_path):
    lines = []
    model = remask.load(quick(tmp_path, report=lines.append), dtype="float32")
    assert lines[-1]["loss"] < 0.3 < 1.5 < lines[0]["loss"]
    assert remask.decode(model, [[4]], max_new_tokens=7).tokens[0].tolist() == [4, 5, 6, 7, 8, 9, 0, 1]
    assert model.tokenizer.encode("42") == [4, 2]


def test_a_run_that_stopped_ends_with_the_weights_of_one_that_did_not(tmp_path):
    recipe = replace(RECIPE, steps=12)
    quick(tmp_path / "whole", recipe)
    run = Run(recipe, tmp_path / "parts", init=None, device="cpu", compiled=False)
    for batch in run.batches(7):
        run.learn(batch)
    run.save()
    quick(tmp_path / "parts", recipe)
    whole, parts = (read_shards(tmp_path / name / "state") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_kill_between_two_renames_loses_nothing(tmp_path):
    recipe = replace(RECIPE, steps=4)
    quick(tmp_path, recipe)
    (tmp_path / "state").rename(tmp_path / "state.old")
    assert Run(recipe, tmp_path, init=None, device="cpu", compiled=False).step == 4


def test_another_seed_is_another_run_and_its_state_is_not_continued(tmp_path):
    seeds, streams = (0, 0, 3), []

    def trained(place, seed):
        recipe = replace(RECIPE, steps=3, seed=seed, source=lambda device, stream, size: streams.append(stream) or Counting())
        return read_shards(quick(tmp_path / str(place), recipe))

    first, again, other = (trained(place, seed) for place, seed in enumerate(seeds))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first if first[name].dim() == 2)
    assert streams[:2] == [0, 0]
    assert streams[2] > 10**6
    with pytest.raises(RemaskError, match="is of seed 3, this run of 0"):
        trained(2, 0)


class Unlucky(Unmasking):
    """A loss that is no number, from some step on."""

    def __init__(self, first):
        super().__init__()
        object.__setattr__(self, "left", [first])

    def reduce(self, losses, batch, noise):
        self.left[0] -= 1
        return super().reduce(losses, batch, noise) * (1.0 if self.left[0] >= 0 else float("nan"))


def test_a_run_that_learns_nothing_any_more_says_where_to_continue(tmp_path):
    """A batch without a finite gradient is dropped; more than half of them are an error."""
    with pytest.raises(RemaskError, match=r"the loss is nan at step 20 and 13 updates were dropped; lower the rates and continue from .*state"):
        quick(tmp_path / "many", replace(RECIPE, steps=20, objective=Unlucky(7)))
    assert quick(tmp_path / "few", replace(RECIPE, steps=20, objective=Unlucky(17))).exists()


def test_rates_that_are_tensors_are_filled_in_place(tmp_path):
    """On a GPU a recorded step reads them where they lie; weights are those of rates that are numbers."""
    after = []
    for kind in (float, torch.tensor):
        run = Run(replace(RECIPE, seed=1), tmp_path, init=None, device="cpu", compiled=False)
        groups = [group for optimizer in run.optimizers for group in optimizer.param_groups]
        for group in groups:
            group["lr"] = kind(group["lr"])
        given = [group["lr"] for group in groups]
        for step in range(3):
            run.learn(Counting().batch(step))
        after.append([parameter.detach().clone() for parameter in run.model.parameters()])
        share = rate_at(2, RECIPE)
        assert [float(group["lr"]) for group in groups] == pytest.approx([share * RECIPE.matrix_rate, share * RECIPE.other_rate])
        assert all(group["lr"] is rate for group, rate in zip(groups, given, strict=True)) == (kind is torch.tensor)
    torch.testing.assert_close(after[1], after[0], rtol=1e-4, atol=1e-5)


def test_no_step_of_any_process_draws_the_noise_of_another(tmp_path):
    drawn = []
    for rank in range(3):
        run = Run(
            replace(RECIPE, corrupt=lambda batch, generator: drawn.append(generator.initial_seed()) or corrupt(batch, generator)), tmp_path, init=None, device="cpu", compiled=False
        )
        run.world, run.stream = World(rank, 3), run.stream + rank
        for step in range(4):
            run.learn(Counting().batch(step))
    assert sorted(drawn) == [*range(12)]


def test_streams_of_seeds_lie_far_apart_in_what_a_generator_reads(tmp_path):
    """Of a seed a CPU's generator reads 32 bits, and a run draws by its steps from its stream on: half of them are left for steps."""
    streams = sorted(Run(replace(RECIPE, seed=seed), tmp_path / str(seed), init=None, device="cpu", compiled=False).stream for seed in (*range(16), 2**31 - 1))
    assert streams[0] == 0
    assert streams[-1] < 2**31
    assert min(after - before for before, after in itertools.pairwise(streams)) > 10**7


def test_a_seed_changes_the_noise_even_where_weights_and_batches_are_given(tmp_path):
    checkpoint = quick(tmp_path / "start", replace(RECIPE, steps=1))
    after = [read_shards(quick(tmp_path / f"seed {seed}", replace(RECIPE, steps=10, seed=seed), init=checkpoint)) for seed in (0, 1)]
    assert any(not torch.equal(after[0][name], after[1][name]) for name in after[0])


def test_the_state_of_another_recipe_is_refused(tmp_path):
    quick(tmp_path, replace(RECIPE, steps=2))
    with pytest.raises(RemaskError, match="another recipe"):
        Run(replace(RECIPE, config={**CONFIG, "n_layers": 1}), tmp_path, init=None, device="cpu", compiled=False)


def test_weights_that_are_not_finite_never_come_from_a_gradient_that_is_not(tmp_path):
    run = Run(RECIPE, tmp_path, init=None, device="cpu", compiled=False)
    for parameter in run.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    next(run.model.parameters()).grad[0, 0] = float("inf")
    run.clip()
    assert int(run.dropped) == 1
    assert all((parameter.grad == 0).all() for parameter in run.model.parameters())


def test_clipping_scales_to_the_norm(tmp_path):
    run = Run(RECIPE, tmp_path, init=None, device="cpu", compiled=False)
    for parameter in run.model.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
    run.clip()
    assert torch.stack([parameter.grad.norm() for parameter in run.model.parameters()]).norm() == pytest.approx(RECIPE.clip, rel=1e-4)


def test_rates_warm_up_hold_and_cool_down():
    recipe = replace(RECIPE, steps=100, warmup=10, cooldown=0.4)
    assert rate_at(0, recipe) == pytest.approx(0.1)
    assert rate_at(30, recipe) == 1.0
    assert rate_at(80, recipe) == pytest.approx(0.5)


def test_times_are_stratified_and_masks_follow_them():
    generator = torch.Generator().manual_seed(0)
    times = antithetic_times(50, generator)
    assert torch.equal(((times - 1e-3) / (1 - 1e-3) * 50).floor().sort().values, torch.arange(50.0))
    eligible = torch.ones(2000, 10, dtype=torch.bool)
    eligible[:, :3] = False
    masked = mask_randomly(eligible, torch.full((2000,), 0.3), generator)
    assert not masked[:, :3].any()
    assert masked[:, 3:].float().mean() == pytest.approx(0.3, abs=0.02)


def test_a_suffix_mask_is_a_suffix_of_at_least_one():
    eligible = torch.tensor([[False, True, True, True, True]] * 3)
    masked = mask_suffix(eligible, torch.tensor([0.01, 0.5, 1.0]))
    assert masked.tolist() == [[False] * 4 + [True], [False, False, False, True, True], [False, True, True, True, True]]


def test_the_loss_weighs_by_time_or_not_and_never_predicts_the_mask():
    losses, masked = torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([[True, False, True]])
    eligible, times = torch.tensor([[True, True, True]]), torch.tensor([0.5])
    assert reduce(losses, masked, eligible, times, "elbo") == pytest.approx(10 / 3)
    assert reduce(losses, masked, eligible, times, "flat") == pytest.approx(2.5)
    assert reduce(losses, masked, eligible, times, "flat", torch.tensor([[3.0, 1.0, 1.0]])) == pytest.approx(7 / 4)
    logits = torch.zeros(1, 1, 12)
    logits[..., 11] = 100
    assert cross_entropy(logits, torch.tensor([[3]]), mask_id=11).item() == pytest.approx(torch.tensor(11.0).log().item())


def test_an_average_follows_its_formula():
    model = build(CONFIG, torch.device("cpu"))
    average, name = Average(model, 0.5), "model.transformer.ln_f.weight"
    expected, weight = torch.ones(32), dict(model.named_parameters())[name]
    for update in range(1, 12):
        with torch.no_grad():
            weight.fill_(float(update))
        average.update(model)
        decay = min(0.5, (update + 1) / (update + 10))
        expected = decay * expected + (1 - decay) * update
    torch.testing.assert_close(average.tensors[name], expected)


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 6, 12), (2, 12, 6)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonalise(matrices).float())
    assert values.min() > 0.4
    assert values.max() < 1.3


def test_decay_bounds_the_norm_of_a_matrix_that_is_always_pushed_one_way():
    weight = torch.nn.Parameter(torch.zeros(8, 8))
    optimizer = Muon([weight], lr=0.1, weight_decay=0.5)
    for _ in range(300):
        weight.grad = torch.eye(8)
        optimizer.step()
    assert torch.linalg.matrix_norm(weight, 2) < 1.3 / 0.5


def test_rows_come_back_as_written_and_pad_with_end_of_text(tmp_path):
    pairs = [("12", "345"), ("6", "7")]
    write_rows(tmp_path / "rows", encode_pairs(lambda texts: [[int(c) for c in text] for text in texts], pairs, 10))
    rows = Rows(tmp_path / "rows")
    assert [(rows.row(i)[0].tolist(), rows.row(i)[1]) for i in range(len(rows))] == [([1, 2, 3, 4, 5, 10], 2), ([6, 7, 10], 1)]
    import numpy as np

    ids, own = rows.window(np.array([0, 1]), 5)
    tokens, eligible, weights = pad_rows(ids, own, rows.prompts, 10, tail_weight=0.2)
    assert tokens.tolist() == [[1, 2, 3, 4, 5], [6, 7, 10, 10, 10]]
    assert eligible.tolist() == [[False, False, True, True, True], [False, True, True, True, True]]
    torch.testing.assert_close(weights, torch.tensor([[1.0] * 5, [1.0, 1.0, 1.0, 0.2, 0.2]]))


def test_missing_rows_name_the_remedy(tmp_path):
    with pytest.raises(RemaskError, match="prepare"):
        Rows(tmp_path / "nothing")


def test_shards_come_back_and_a_truncated_one_is_named(tmp_path):
    tensors = {f"t{i}": torch.randn(10, 10) for i in range(5)}
    write_shards(tmp_path, tensors, limit=900)
    assert len(list(tmp_path.glob("*.safetensors"))) == 3
    found = read_shards(tmp_path)
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    shard = next(tmp_path.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:50])
    with pytest.raises(RemaskError, match=shard.name):
        read_shards(tmp_path)


def test_a_folder_is_replaced_whole(tmp_path):
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    replace_folder(tmp_path / "new", tmp_path / "old")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old" / "file").read_text() == "new"
