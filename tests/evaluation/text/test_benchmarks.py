"""The benchmarks that a GPU is for, at a size for a CPU."""

import json
import math

import pytest
import torch

import remask
from benchmarks import dsl_cause, dsl_text, training
from remask.channel import random_codes
from remask.evaluation.text.matched import Sampled
from remask.testing import LocalisedMarkov
from remask.training.data import write_stream
from remask.training.run import build
from remask.training.shards import write_json, write_shards
from tests.chains import chain_7
from tests.evaluation.text.test_judge import CONFIG as JUDGE
from tests.evaluation.text.test_measure import STREAM, network
from tests.models.test_dsl import CONFIG as DSL
from tests.models.test_dsl import PLAIN


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    for name, config in (("mdlm", PLAIN), ("dsl", DSL), ("judge", JUDGE)):
        (folder / name).mkdir()
        write_json(folder / name / "config.json", config)
        write_shards(folder / name, dict(network(config).named_parameters()))
    for split in ("valid", "test"):
        write_stream(folder / f"fiction_{split}.xz", STREAM.numpy())
    return folder


def test_quality_against_forwards_is_measured_for_every_network_and_continued(folder, tmp_path, capsys):
    command = ["--model", f"mdlm={folder / 'mdlm'}", "--model", f"dsl={folder / 'dsl'}", "--judge", str(folder / "judge"), "--data", str(folder), "--out", str(tmp_path)]
    command += ["--forwards", "4", "6", "--top-p", "0.5", "1.0", "--length", "16", "--rows", "20", "--tune-rows", "4", "--batch", "16"]
    cells = dsl_text.main(command)
    kinds = ("ancestral", "remdm cap", "remdm loop", "remdm conf", "remdm doubt", "remdm doubt, flatter", "p2")
    discrete = [(forwards, sampler, model) for forwards in (4, 6) for sampler in kinds for model in ("mdlm", "dsl")]
    continuous = [(forwards, sampler, "dsl") for forwards in (4, 6) for sampler in ("sde", "native hybrid", "commit hybrid")]
    assert sorted((cell.forwards, cell.sampler, cell.model) for cell in cells) == sorted(discrete + continuous)
    for cell in cells:
        assert cell.forwards - 2 <= cell.made_forwards <= cell.forwards + 1
        assert cell.nll[1] <= cell.nll[0] <= cell.nll[2]
        assert cell.inside == (cell.top_p[0] != cell.top_p[1])
    printed = capsys.readouterr().out
    assert printed.count("| mdlm | ") == 7
    assert printed.count("| dsl | ") == 10
    lines = [json.loads(line) for line in (tmp_path / "cells.jsonl").read_text().splitlines()]
    assert lines[0]["target_entropy"] == pytest.approx(float(torch.special.entr(torch.tensor([2 / 16] * 6 + [1 / 16] * 4)).sum()))
    assert [line["name"] for line in lines[1:5]] == ["real text", "the judge's own", "mdlm", "dsl"]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*_p*.jsonl")}
    assert dsl_text.main(command) == cells
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*_p*.jsonl")}, "nothing is made twice"


def test_a_setting_is_chosen_by_its_likelihood_at_the_target_and_one_that_misses_it_comes_last(monkeypatch):
    """Three settings: sharp (likely, never at the target), good and bad (both reach it)."""
    entropies = {"sharp": (1.0, 2.0), "good": (4.0, 6.0), "bad": (4.0, 6.0)}
    costs = {"sharp": (0.5, 0.6), "good": (2.0, 3.0), "bad": (3.0, 4.0)}

    class Fixed(dsl_text.Bench):
        def run(self, name, network, spec, top_p, *, fresh):
            place = self.top_p.index(top_p)
            return [{"entropy": entropies[spec][place], "nll": costs[spec][place], "forwards": 8.0}] * 3

    monkeypatch.setitem(dsl_text.SAMPLERS, "three", ("sharp", "good", "bad"))
    monkeypatch.setattr(
        dsl_text,
        "summarise",
        lambda records, *_: {"forwards": (8.0, 8.0, 8.0), "pseudo_mauve": (0.5, 0.4, 0.6), "distinct_2": (records[0]["nll"], 0, 9), "repetition": (-records[0]["nll"], -9, 0)},
    )
    bench = Fixed(None, None, 5.5, None, (0.9, 1.0), 16, 3, 3, 3)
    cell = bench.cell("net", None, "three", 8)
    assert (cell.spec, cell.inside) == ("good", True)
    assert cell.nll == pytest.approx((2.75, 2.75, 2.75)), "three quarters of the way"
    assert (cell.made_forwards, cell.pseudo_mauve, cell.distinct_2, cell.repetition) == (8.0, (0.5, 0.4, 0.6), 3.0, -3.0), "of the nearer of the two, 6.0"
    assert isinstance(dsl_text.sampled([{"entropy": 1.0, "nll": 2.0}]), Sampled)
    assert dsl_text.table([cell], [8]).splitlines()[2] == "| net | three | 2.750 (2.750-2.750) |"


def test_training_throughput_is_measured_for_every_network(capsys):
    lines = training.main(["--tiny"])
    assert [line["name"] for line in lines] == ["mdlm", "dsl", "mdlm large", "dsl large", "judge", "dsl over mdlm", "dsl over mdlm large"]
    assert all(line["tokens_per_second"] > 0 and line["share"] > 0 for line in lines[:5])
    assert all(low <= line["overhead"] <= high for line in lines[5:] for low, high in [line["range"]])
    assert "bf16 ceiling" in capsys.readouterr().out


def test_the_kernels_of_a_training_step_are_listed(capsys):
    training.main(["--tiny", "--only", "mdlm", "--profile"])
    shown = capsys.readouterr().out
    assert "us a step, kernels" in shown
    assert "aten::mm" in shown


def test_operations_are_six_for_every_weight_of_a_product():
    """Counted on the networks themselves: every matrix but the tables that are looked up, and the constants of the noise level."""
    for name, one in training.contenders().items():
        model = build(one.config, torch.device("meta"))
        looked_up = ("sigma_map", "adaLN", "embed") if "dsl" not in name else ("sigma_map", "adaLN")
        weights = sum(p.numel() for key, p in model.named_parameters() if p.dim() == 2 and not any(part in key for part in looked_up))
        layers, width = (one.config[key] for key in (("num_layers", "hidden_size") if name == "judge" else ("n_blocks", "hidden_dim")))
        found = training.operations(one.config, 256) - 12 * layers * width * 256
        assert math.isclose(found, 6 * weights, rel_tol=2e-3), name


def test_the_parts_of_a_decode_are_read_from_real_text(folder):
    command = ["--model", f"mdlm={folder / 'mdlm'}", "--model", f"dsl={folder / 'dsl'}", "--judge", str(folder / "judge"), "--data", str(folder)]
    lines = dsl_cause.main([*command, "--rows", "4", "--length", "16", "--batch", "2", "--points", "4", "--finish", "0.5", "1000"])
    assert [line.split(":")[0].split(" ")[0].strip(",") for line in lines] == [
        "4", "mdlm", "masked", "fixed/kept/calibration", *["errors"] * 2,
        "dsl", "masked", *["fixed/kept/calibration"] * 5, *["errors"] * 2, "SNR", "bounds", "the", "finished", "finished",
    ]  # fmt: skip
    assert lines[-1].startswith("finished from SNR 1000")


def test_a_real_state_that_hides_nothing_is_finished_as_it_was():
    chain, codes = chain_7(), random_codes(3, 32)
    model = LocalisedMarkov(chain.initial, chain.transition, codes)
    rows = torch.randint(3, (4, 12), generator=torch.Generator().manual_seed(0))
    assert torch.equal(dsl_cause.finished(model, rows, 400.0, (0.0, 1.0, 401.0)), rows)
    assert not torch.equal(dsl_cause.finished(model, rows, 0.01, (0.0, 1.0, 401.0)), rows)
    cost, error = dsl_cause.alone(codes, torch.full((3,), 1 / 3, dtype=torch.float64), rows, 0.0)
    assert cost == pytest.approx(float(torch.tensor(3.0).log()))
    assert error > 0.5


def test_doubt_is_told_apart_by_rank():
    wrong = torch.tensor([True, False, False, True, False])
    assert dsl_cause.area(torch.tensor([5.0, 1.0, 2.0, 4.0, 3.0]), wrong) == 1
    assert dsl_cause.area(torch.tensor([1.0, 4.0, 5.0, 2.0, 3.0]), wrong) == 0
    assert dsl_cause.area(torch.tensor([5.0, 1.0, 4.0, 2.0, 3.0]), wrong) == pytest.approx(4 / 6)


def test_mistakes_are_wrong_where_they_are_said_to_be(folder):
    writer = remask.load(str(folder / "mdlm"))
    rows = torch.randint(10, (20, 16), generator=torch.Generator().manual_seed(0))
    for shown, wrong in dsl_cause.mistaken(writer, rows).values():
        assert torch.equal(shown != rows, wrong)
        assert 0.05 < float(wrong.float().mean()) < 0.3
