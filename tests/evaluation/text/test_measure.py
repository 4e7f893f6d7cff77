"""Rows, their records and their summaries; and the command that prints them."""

import json
import re
import shutil

import pytest
import torch

import remask
from remask import RemaskError
from remask.continuous import SDE, Discrete
from remask.evaluation.intervals import mean_interval
from remask.evaluation.text.judge import negative_log_likelihood
from remask.evaluation.text.measure import cut, drawn, measure, of_judge, summarise
from remask.evaluation.text.network import bounds, of_network
from remask.models.causal import Causal
from remask.training.data import read_stream, write_stream
from remask.training.run import build
from remask.training.shards import write_json, write_shards
from remask.training.vocabulary import characters, write_tokenizer
from tests.cli.test_commands import remask_command
from tests.evaluation.text.test_judge import CONFIG as JUDGE
from tests.models.test_dsl import CONFIG as DSL
from tests.models.test_dsl import PLAIN

STREAM = (torch.arange(1000, dtype=torch.int32) * 7) % 10


def network(config, seed=0):
    """With weights that say something."""
    model = build(config, torch.device("cpu"), seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def judge():
    return network(JUDGE)


def test_a_row_is_the_same_whatever_it_is_asked_with(judge):
    model = network(DSL)
    sources = {
        "decoder": drawn(model, Discrete(remask.Ancestral(4)), 8, seed=3),
        "sde": drawn(model, SDE(4), 8, seed=3),
        "judge": of_judge(judge, 8, seed=3),
        "text": cut(STREAM, 8, first=2),
    }
    for rows in sources.values():
        together, alone = rows([0, 4, 7]), rows([4])
        assert torch.equal(together[0][1], alone[0][0])
        assert together[1][1] == alone[1][0]
        assert together[0].shape == (3, 8)


def test_real_rows_follow_one_another_and_end_with_the_text():
    rows = cut(STREAM, 10, first=1)([0, 1])[0]
    assert torch.equal(rows.flatten(), STREAM[10:30].long())
    with pytest.raises(RemaskError, match="behind the end"):
        cut(STREAM, 10)([100])


def test_samplers_that_cannot_draw_or_read_states_are_refused():
    with pytest.raises(RemaskError, match="add a temperature"):
        drawn(network(PLAIN), Discrete(remask.Threshold(0.9)), 8)
    with pytest.raises(RemaskError, match="reads none"):
        drawn(network(PLAIN), SDE(4), 8)
    assert len(drawn(network(PLAIN), Discrete(remask.Threshold(0.9)), 8, shapers=(remask.Temperature(1.0),))([0, 1])[0]) == 2


def test_records_are_kept_and_continued(judge, tmp_path):
    asked = []

    def rows(indices):
        asked.extend(indices)
        return cut(STREAM, 12)(indices)

    out = tmp_path / "deep" / "rows.jsonl"
    whole = measure(rows, 5, judge, setting="a", out=out, batch=2)
    lines = out.read_text().splitlines(keepends=True)
    out.write_text("".join(lines[:3]) + lines[3][:30])
    assert measure(rows, 5, judge, setting="a", out=out, batch=2) == whole
    assert asked == [0, 1, 2, 3, 4, 3, 4]
    with pytest.raises(RemaskError, match="not of 'b'"):
        measure(rows, 5, judge, setting="b", out=out)
    with pytest.raises(RemaskError, match="batch is 0"):
        measure(rows, 5, judge, setting="a", batch=0)


def test_a_summary_is_the_mean_of_its_rows(judge):
    records = measure(cut(STREAM, 12), 30, judge, setting="text")
    tokens = torch.tensor([record["tokens"] for record in records])
    found = summarise(records, judge, real=tokens)
    assert found["nll"][0] == pytest.approx(float(negative_log_likelihood(judge, tokens).mean()), abs=1e-5)
    assert found["nll"][1] <= found["nll"][0] <= found["nll"][2]
    assert found["distinct_1"][0] == pytest.approx(10 / 12), "twelve steps of 7 in a ring of 10"
    assert found["forwards"][0] == 0
    assert found["pseudo_mauve"] == pytest.approx((1, 1, 1)), "of rows with themselves"
    assert "pseudo_mauve" not in summarise(records, judge)


def test_an_interval_of_a_mean_has_the_width_of_its_standard_error():
    values = torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mean, low, high = mean_interval(values.tolist())
    assert mean == pytest.approx(float(values.mean()))
    assert high - low == pytest.approx(2 * 1.96 * float(values.std()) / 20, rel=0.1)
    assert mean_interval([3.0]) == (3.0, 3.0, 3.0)
    with pytest.raises(RemaskError, match="no values"):
        mean_interval([])


def test_what_real_text_says_of_a_network_is_complete():
    tokens = cut(STREAM, 16)(list(range(8)))[0]
    plain, states = of_network(network(PLAIN), tokens, batch=3), of_network(network(DSL), tokens, batch=3)
    assert [line["share"] for line in plain["revision"]] == [0.05, 0.1, 0.2, 0.3, 0.5]
    assert all(0 <= line[name][0] <= 1 for line in states["revision"] for name in ("fixed", "kept"))
    assert {"random_order_bound", "diffusion_bound"} <= set(states)
    curve = list(states["cross_entropy_over_snr"].values())
    assert len(curve) == 14
    assert curve[-1] != curve[0]
    assert "random_order_bound" not in plain
    assert bounds(network(DSL), tokens, batch=3, points=4)["random_order_bound"] == states["random_order_bound"]


def test_a_stream_survives_its_file(tmp_path):
    write_stream(tmp_path / "deep" / "text.xz", (STREAM + 60_000).numpy())
    assert torch.equal(read_stream(tmp_path / "deep" / "text.xz"), STREAM + 60_000)
    (tmp_path / "broken.xz").write_bytes(b"no xz")
    for name in ("broken.xz", "missing.xz"):
        with pytest.raises(RemaskError, match="--prepare"):
            read_stream(tmp_path / name)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A DSL checkpoint, a judge and a text, all of ten digits."""
    folder = tmp_path_factory.mktemp("text")
    for name, config in (("model", DSL), ("judge", JUDGE)):
        (folder / name).mkdir()
        write_json(folder / name / "config.json", config)
        write_shards(folder / name, dict(network(config).named_parameters()))
        write_tokenizer(characters("0123456789"), folder / name)
    write_stream(folder / "real.xz", STREAM.numpy())
    return folder


def test_eval_text_prints_and_writes_every_source_and_continues(folders, tmp_path):
    command = ["eval", "text", "--model", str(folders / "model"), "--judge", str(folders / "judge"), "--real", str(folders / "real.xz"), "--out", str(tmp_path / "found")]
    command += ["-n", "20", "--length", "16", "--batch", "8", "--sampler", "remdm:steps=3", "--sampler", "sde:forwards=3", "--top-p", "0.9"]
    done = remask_command(*command)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "found" / "summary.jsonl").read_text().splitlines()]
    assert [line["name"] for line in lines] == ["real text", "the judge's own", "remdm:steps=3", "sde:forwards=3", "network"]
    assert [line["forwards"][0] for line in lines[:-1]] == [0, 16, pytest.approx(3, abs=1), 3]
    assert all(line["rows"] == 20 for line in lines)
    assert "p-MAUVE" in done.stdout
    rows = (tmp_path / "found" / "sde~forwards=3.jsonl").read_text()
    (tmp_path / "found" / "sde~forwards=3.jsonl").write_text("".join(rows.splitlines(keepends=True)[:7]))
    again = remask_command(*command)
    assert again.stdout == done.stdout
    assert (tmp_path / "found" / "sde~forwards=3.jsonl").read_text() == rows
    for other, both in (("--seed", "1"), ("seed 0", "seed 1")), (("--dtype", "bfloat16"), ("cpu float32", "cpu bfloat16")):
        refused = remask_command(*command, *other)
        assert refused.returncode == 2
        assert all(word in refused.stderr for word in both)
        assert "name another folder" in refused.stderr


def test_eval_text_goes_on_by_what_text_and_networks_are_and_not_by_their_names(folders, tmp_path, monkeypatch):
    for name in ("model", "judge"):
        shutil.copytree(folders / name, tmp_path / "copies" / name)
    write_stream(tmp_path / "copies" / "text.xz", STREAM.numpy())
    monkeypatch.chdir(tmp_path)
    command = ["eval", "text", "--out", "found", "-n", "20", "--length", "16", "--sampler", "remdm:steps=2"]
    assert remask_command(*command, "--model", str(folders / "model"), "--judge", str(folders / "judge"), "--real", str(folders / "real.xz")).returncode == 0
    kept = {path.name: path.read_bytes() for path in (tmp_path / "found").iterdir()}
    names = ["--model", "copies/model", "--judge", "./copies/judge", "--real", "copies/text.xz"]
    done = remask_command(*command, *names)
    assert done.returncode == 0, done.stderr
    assert all((tmp_path / "found" / name).read_bytes() == held for name, held in kept.items() if name != "summary.jsonl")
    write_stream(tmp_path / "copies" / "text.xz", ((STREAM + 1) % 10).numpy())
    refused = remask_command(*command, *names)
    assert refused.returncode == 2
    assert re.search(r"holds results of 'real text, text ([0-9a-f]{12}), .*, not of 'real text, text (?!\1)[0-9a-f]{12}, .*; name another folder", refused.stderr)


def test_eval_text_does_not_go_on_with_rows_of_other_counts_of_the_same_path(folders, tmp_path):
    counts = tmp_path / "counts.json"
    command = ["eval", "text", "--model", str(folders / "model"), "--judge", str(folders / "judge"), "--real", str(folders / "real.xz"), "--out", str(tmp_path / "found")]
    command += ["-n", "20", "--length", "16", "--sampler", f"pc:background={counts},steps=2"]
    counts.write_text(str([1] * 20))
    for again in range(2):
        assert remask_command(*command).returncode == 0, again
    counts.write_text(str([2] * 10 + [1] * 10))
    refused = remask_command(*command)
    assert refused.returncode == 2
    assert re.search(
        r"holds results of 'pc:.* pc:background=([0-9a-f]{12}),steps=2, .*, not of 'pc:.* pc:background=(?!\1)[0-9a-f]{12},steps=2, .*; name another folder", refused.stderr
    )


def test_a_judge_that_reads_both_ways_or_other_ids_is_refused(folders, tmp_path):
    common = ["eval", "text", "--model", str(folders / "model"), "--real", str(folders / "real.xz"), "--out", str(tmp_path), "-n", "20", "--length", "16"]
    done = remask_command(*common, "--judge", str(folders / "model"))
    assert done.returncode == 2
    assert "cannot judge" in done.stderr
    wide = tmp_path / "wide"
    wide.mkdir()
    write_json(wide / "config.json", {**JUDGE, "vocab_size": 13})
    write_shards(wide, dict(Causal({**JUDGE, "vocab_size": 13}).named_parameters()))
    done = remask_command(*common, "--judge", str(wide))
    assert done.returncode == 2
    assert "13 ids" in done.stderr
