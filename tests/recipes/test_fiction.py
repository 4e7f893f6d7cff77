"""The fiction recipes on made-up text: every one of them trains, stops, continues and leaves a checkpoint that its own evaluation reads."""

import csv
import lzma
import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import remask
from remask import RemaskError
from remask.cli.train import choose, load_recipe, locate_recipe, run
from remask.evaluation.tasks.files import data_folder
from remask.models.causal import Causal
from remask.models.dsl import DSL
from remask.models.mdlm import MDLM
from remask.training.data import Batch, read_stream
from remask.training.objectives import Localising, Predicting, Restoring, Unmasking
from remask.training.run import build, train
from remask.training.shards import read_shards

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
SMALL = {"hidden_dim": 32, "n_blocks": 1, "n_heads": 2, "hidden_size": 32, "num_layers": 1, "num_heads": 2, "intermediate_size": 48}
VARIANTS = ("continued", "mixed", "by_row", "log_normal", "roar", "scratch", "substitution", "wrong_ends", "own_drafts")
SIZES = ("small", "large_dsl", "base_continued")
RUNS = [("fiction", ""), ("fiction_judge", ""), ("fiction_dsl", ""), *(("fiction_control", name) for name in VARIANTS), *(("fiction_sizes", name) for name in SIZES)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Passages of random words, enough of them for 4,096 byte pairs, in the published files; and what `prepare` makes of them."""
    folder = tmp_path_factory.mktemp("fiction")
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 9))) for _ in range(3000)]
    for name, count in (("train_a", 500), ("valid", 12), ("test", 12)):
        with lzma.open(folder / f"pdfiction_{name}.txt.xz", "wt", preset=0) as file:
            file.write("\n\n".join(" ".join(rng.choices(words, k=200)) for _ in range(count)))
    patch = pytest.MonkeyPatch()
    patch.setenv("REMASK_DATA", str(folder))
    module = load_recipe(RECIPES / "fiction.py")
    patch.setattr(module, "OWN", 60)
    patch.setattr(module, "GAP", 10)
    patch.setattr(module, "JUDGE", 40)
    module.prepare(folder / "ids")
    patch.undo()
    return folder / "ids"


def tiny(name, variant, data, steps=4):
    """The recipe with a small network and few rows."""
    module = load_recipe(RECIPES / f"{name}.py")
    plan = choose(module, data, variant, steps)
    fiction = getattr(module, "fiction", module)
    ids = plan.source(torch.device("cpu"), 0, 1).ids
    config = {**plan.config, **{key: value for key, value in SMALL.items() if key in plan.config}}
    return module, replace(plan, config=config, source=lambda device, stream, size: fiction.Windows(ids, device, stream, size, rows=2), warmup=1, evaluate=None)


def loss_of(folder):
    return [line for line in (folder / "metrics.jsonl").read_text().splitlines() if "loss" in line]


@pytest.mark.parametrize(("name", "variant"), RUNS)
def test_a_recipe_trains_stops_and_continues(name, variant, data, tmp_path):
    module, plan = tiny(name, variant, data)
    whole = train(plan, tmp_path / "whole", compiled=False, every=2)
    train(plan, tmp_path / "parts", compiled=False, every=2, minutes=0)
    train(plan, tmp_path / "parts", compiled=False, every=2)
    assert all(torch.equal(tensor, read_shards(tmp_path / "parts" / "state")[key]) for key, tensor in read_shards(tmp_path / "whole" / "state").items())
    assert len(loss_of(tmp_path / "whole")) == 2
    model = remask.load(whole)
    assert isinstance(
        model, {"fiction": MDLM, "fiction_judge": Causal, "fiction_dsl": DSL}.get(name, MDLM if variant in ("continued", "substitution", "small", "base_continued") else DSL)
    )
    assert model.tokenizer.encode("abc")
    if name == "fiction":
        found = module.evaluate(model, data, rows=2, steps=2)
        assert len(found["samples"]) == 2
        assert 0 < found["masked_bound"] < 20
    elif name == "fiction_judge":
        assert 5 < module.evaluate(model, data, rows=2)["nats"] < 9
    elif name == "fiction_dsl":
        found = module.evaluate(model, data, rows=1, steps=2, points=3)
        assert {"masked_bound", "random_order_bound", "diffusion_bound", "samples", "sde_samples"} <= set(found)


def test_controls_differ_from_the_run_they_control_in_their_noise_and_loss_alone(data):
    control, dsl = load_recipe(RECIPES / "fiction_control.py"), load_recipe(RECIPES / "fiction_dsl.py").recipe(data)
    plans = {variant: control.recipe(data, variant=variant) for variant in control.VARIANTS}
    scratch, fiction = plans.pop("scratch"), load_recipe(RECIPES / "fiction.py").recipe(data)
    assert (scratch.corrupt, scratch.matrix_rate, scratch.other_rate) == (plans["by_row"].corrupt, fiction.matrix_rate, fiction.other_rate)
    for plan in plans.values():
        assert (plan.steps, plan.matrix_rate, plan.other_rate, plan.warmup, plan.cooldown, plan.weight_decay) == (
            dsl.steps, dsl.matrix_rate, dsl.other_rate, dsl.warmup, dsl.cooldown, dsl.weight_decay
        )  # fmt: skip
    assert [type(plan.objective) for plan in plans.values()] == [Unmasking, Localising, Localising, Localising, Localising, Restoring, control.Mistaken, control.Drafted]
    assert [getattr(plan.corrupt, "roar", None) for plan in plans.values()] == [None, 0.5, 0.25, 0.0, 1.0, None, None, None]
    assert plans["mixed"].corrupt == plans["wrong_ends"].corrupt.channel == plans["own_drafts"].corrupt.channel == dsl.corrupt
    assert isinstance(load_recipe(RECIPES / "fiction_judge.py").recipe(data).objective, Predicting)
    with pytest.raises(RemaskError, match="unknown variant 'none'"):
        control.recipe(data, variant="none")


def test_substitution_masks_as_mdlm_does_and_replaces_up_to_half_of_the_rest():
    control = load_recipe(RECIPES / "fiction_control.py")
    tokens = torch.randint(4094, (64, 256), generator=torch.Generator().manual_seed(0))
    batch = Batch(tokens, torch.ones_like(tokens, dtype=torch.bool))
    (shown,) = control.mask_and_substitute(batch, torch.Generator().manual_seed(1))
    masked, wrong = shown == 4095, (shown != tokens) & (shown != 4095)
    torch.testing.assert_close(masked.float().mean(), torch.tensor(0.5), atol=0.02, rtol=0)
    rates = wrong.sum(1) / (~masked).sum(1).clamp(min=1)
    assert float(rates.mean()) == pytest.approx(0.25, abs=0.04)
    assert float(rates[(~masked).sum(1) > 50].max()) < 0.65
    assert (shown[wrong] < 4094).all()


@pytest.mark.parametrize(("variant", "most"), [("wrong_ends", 0.1), ("own_drafts", 0.3)])
def test_known_tokens_at_endpoints_are_shown_wrong(variant, most, data):
    """A share of each row up to `most`, in the half of the rows that are at endpoints and nowhere else; drafts are the network's, and some of them right."""
    control = load_recipe(RECIPES / "fiction_control.py")
    plan = control.recipe(data, variant=variant)
    model = build({**plan.config, "hidden_dim": 32, "n_blocks": 1, "n_heads": 2}, torch.device("cpu"))
    tokens = torch.randint(4094, (32, 256), generator=torch.Generator().manual_seed(0))
    batch = Batch(tokens, torch.ones_like(tokens, dtype=torch.bool))
    noise = plan.corrupt(batch, torch.Generator().manual_seed(1))
    snr, _, where, _ = noise
    assert not (where & (snr != 100)).any()
    assert not where[16:].any()
    known = (snr[:16] == 100).sum(1)
    rates, known = (where[:16].sum(1) / known)[known > 50], known[known > 50]
    assert float(rates.mean()) == pytest.approx(most / 2, abs=most / 6)
    assert bool((rates < most + 4 * (most / known).sqrt()).all())
    drawn = plan.objective.wrong(model, batch, noise)
    assert (drawn[where] < (4094 if variant == "wrong_ends" else 4095)).all()
    if variant == "wrong_ends":
        assert (drawn != tokens).all()
    else:  # what is known at the place itself says nothing, what is known elsewhere does
        hidden = Batch(torch.where(where, 7, tokens), batch.eligible)
        assert torch.equal(plan.objective.wrong(model, hidden, noise), drawn)
    seen = []
    plan.objective.hidden(SimpleNamespace(codes=model.codes, head=model.head, hidden_of=lambda z: seen.append(z) or model.hidden_of(z)), batch, noise)
    shown = (seen[-1][..., None, :] @ model.codes[tokens][..., None])[..., 0, 0] / snr
    assert bool((shown - 1)[where & (drawn != tokens)].abs().gt(0.2).all())
    assert bool((shown - 1)[~where & (snr == 100)].abs().lt(0.9).all())


def test_the_networks_fit_24_megabytes():
    for name in ("fiction", "fiction_dsl", "fiction_judge"):
        count = sum(parameter.numel() for parameter in build(load_recipe(RECIPES / f"{name}.py").CONFIG, torch.device("meta")).parameters())
        assert 11e6 < count < 12e6, name


def test_no_book_is_shared_with_the_judge():
    """Books of every length up to the gap, one after the other."""
    fiction = load_recipe(RECIPES / "fiction.py")
    rng, books = random.Random(1), []
    while len(books) < 150_000:
        books += [f"book {len(books)}"] * rng.randint(1, fiction.GAP)
    own, judges = fiction.shares(books)
    assert not set(own) & set(judges)
    assert len(own) > 0.55 * len(books)
    assert len(judges) > 0.3 * len(books)


def test_the_gap_is_longer_than_the_longest_book():
    try:
        manifest = data_folder() / "pdfiction_manifest.tsv"
    except RemaskError:
        pytest.skip("no data folder")
    with open(manifest, encoding="utf-8") as file:
        longest = max(int(row["passages_kept"]) for row in csv.DictReader(file, delimiter="\t") if row["split"] == "train")
    assert longest <= load_recipe(RECIPES / "fiction.py").GAP


def test_streams_hold_every_passage_with_an_end_behind_it(data):
    fiction, judge = read_stream(data / "fiction_train.xz"), read_stream(data / "judge_train.xz")
    assert int((fiction == 4094).sum()) == 300 - 40, "five turns of 120, the last cut short"
    assert int((judge == 4094).sum()) == 160
    assert fiction[-1] == judge[-1] == 4094
    assert int(max(fiction.max(), judge.max())) == 4094


def test_recipes_have_names_and_lengths(data, tmp_path):
    assert locate_recipe(Path("fiction-dsl")) == RECIPES / "fiction_dsl.py"
    assert locate_recipe(tmp_path / "x.py") == tmp_path / "x.py"
    module = load_recipe(RECIPES / "fiction.py")
    assert choose(module, data, "", 7).steps == 7
    assert choose(module, data, "", None).steps == 10_000
    with pytest.raises(RemaskError, match="no variants"):
        choose(module, data, "roar", None)
    with pytest.raises(RemaskError, match="steps is 0"):
        choose(module, data, "", 0)


def test_data_are_prepared_without_training_and_what_is_there_is_kept(data, monkeypatch, capsys):
    monkeypatch.setenv("REMASK_DATA", str(data.parent))
    before = {path: path.stat().st_mtime_ns for path in data.iterdir()}
    run(recipe=Path("fiction"), data=data, out=data / "never", prepare_only=True)
    assert {path: path.stat().st_mtime_ns for path in data.iterdir()} == before
    assert capsys.readouterr().out.strip() == str(data)
