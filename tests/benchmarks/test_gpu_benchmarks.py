"""The GPU benchmarks run through on a tiny shape, so that no minute on a GPU is lost to an error here; and what they compute is right."""

import json
import os
import re
import runpy
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import remask
from remask.denoise import Plan, start, step
from remask.kernels import has_triton
from remask.models.fused import Fused

FOLDER = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(FOLDER))

from cuts import product_jobs  # noqa: E402
from scripted import DREAM_7B, LLADA_8B, SHARES, PerStep, Roofline, ScriptedLocks, canvas_of, network, share_at  # noqa: E402


def lines(monkeypatch, capsys, name, *arguments):
    monkeypatch.setattr(sys, "argv", [name, "--tiny", "--device", "cpu", *arguments])
    runpy.run_path(str(FOLDER / name), run_name="__main__")
    head, *rest = capsys.readouterr().out.splitlines()
    assert torch.__version__ in head
    return [json.loads(line) for line in rest]


@pytest.mark.skipif(torch.cuda.is_available() or not has_triton(), reason="needs Triton and no GPU: the interpreter runs kernels on the CPU")
def test_every_tile_of_few_rows_computes_the_same():
    """What `step.py --tiles` times, called once: of `out` and `down` all of ours give the same sum; mix and gate_up go through."""
    torch.manual_seed(0)
    jobs = [(said, calls) for said, calls, _ in product_jobs(Fused(network("tiny-llada", "cpu", torch.float32))) if said["rows"] == 32 and said.get("columns", 32) <= 32]
    assert {said["matrix"] for said, _ in jobs} == {"mix", "out", "gate_up", "down"}
    made = {"out": [], "down": []}
    for said, calls in jobs:
        found = calls[0]()
        if said["matrix"] in made:
            made[said["matrix"]].append(found[0])
    for _, first, *others in made.values():  # the library adds to the residual where it lies, and comes first
        assert len(others) >= 3
        for other in others:
            torch.testing.assert_close(other, first, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", ["llada", "dream"])
def test_a_step_is_measured_every_way(monkeypatch, capsys, shape):
    monkeypatch.setitem(sys.modules["scripted"].SHAPES, "tiny-llada", sys.modules["scripted"].SHAPES[f"tiny-{shape}"])
    monkeypatch.setattr(torch, "compile", lambda *_, **__: pytest.fail("a way that only a GPU takes is compiled"))
    rows = lines(monkeypatch, capsys, "step.py")
    assert [(row["M"], row["L"]) for row in rows] == [(8, 24), (24, 24), (8, 24)]
    assert all(row[way] > 0 and row[f"{way} / roofline"] > 0 for row in rows for way in ("loop", "captured", "fused"))


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("0,24,24", "0,24,24: rows is 0; use 1 or more"),
        ("1,8,-1", "1,8,-1: L is -1; use 1 or more"),
        ("1,0,24", "1,0,24: M is 0; use 1 to L, which is 24"),
        ("1,25,24", "1,25,24: M is 25; use 1 to L, which is 24"),
        ("1,24,24,0", "1,24,24,0: T is 0; use 1 to L, which is 24"),
        ("1,24,24,25", "1,24,24,25: T is 25; use 1 to L, which is 24"),
        ("1,8,24,8", "1,8,24,8: T is 8 and M, 8, is less than L, 24: all of the block are asked about; leave T out"),
        *((case, f"{case!r} is not rows,M,L or rows,M,L,T in whole numbers; write 1,32,512, say, or 1,384,384,32") for case in ("1,24", "1,24,24,8,8", "1,8,2x", "1,2.0,24", "")),
    ],
)
def test_a_case_that_cannot_be_is_one_line_that_names_it(monkeypatch, capsys, case, said):
    with pytest.raises(SystemExit) as left:
        lines(monkeypatch, capsys, "step.py", "--cases", "1,8,24", case)
    assert left.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"step.py: error: argument --cases: {said}"


def test_cases_at_the_edge_of_what_can_be_are_measured(monkeypatch, capsys):
    found = lines(monkeypatch, capsys, "step.py", "--ways", "fused", "--cases", "1,24,24,24", "1,24,24,1", "1,1,24", "1,1,1")
    assert [(row["M"], row["L"], row["T"]) for row in found] == [(24, 24, 24), (24, 24, 1), (1, 24, 1), (1, 1, 1)]
    assert all(row["fused"] > 0 for row in found)
    assert ["fused layers, all states" in row for row in found] == [False, True, False, False]


def test_products_are_measured(monkeypatch, capsys):
    assert len(lines(monkeypatch, capsys, "step.py", "--products")) == 8


@pytest.mark.parametrize("way", ["fused", "captured", "loop", "fused-loop"])
def test_whole_decodes_are_measured(monkeypatch, capsys, way):
    rows = lines(monkeypatch, capsys, "decode.py", "--way", way)
    assert {row["table"] for row in rows} == {"reuse", "locks", "batch", "workload", "uneven"}
    positions = {row["rule"]: row["positions a forward"] for row in rows if row["table"] == "reuse"}
    assert positions["fresh"] == 32
    assert positions["dual:inner=(surelock)"] < positions["dual"] == (2 * 32 + 14 * 8) / 16 < positions["prefix"] < positions["fresh"]


def test_batches_of_many_lengths_are_timed_as_they_come(monkeypatch, capsys):
    met, passes = [], remask.Captured.passes
    monkeypatch.setattr(remask.Captured, "passes", lambda captured, state, plan: met.append((captured.lengths, state.canvas.shape)) or passes(captured, state, plan))
    rows = lines(monkeypatch, capsys, "decode.py", "--only", "uneven", "--canvases", "8")
    assert [(row["rows"], row["canvases"], len(row["seconds"])) for row in rows] == [(1, 8, 2), (2, 8, 2)]
    assert all(row["of all"] == pytest.approx(sum(row["seconds"]), abs=0.01) for row in rows)
    assert [(lengths, rows) for lengths, (rows, _) in met] == [(8, 1), (8, 1), (8, 2), (8, 2)]
    assert all(21 <= length <= 26 for _, (_, length) in met)
    assert len({length for _, (_, length) in met}) > 1


def test_scripted_locks_follow_the_published_shares():
    model = network("tiny-llada", "cpu", torch.float32)
    canvas = canvas_of(model, 2, 16, 48)
    steps = list(remask.denoise(model, canvas, decoder=PerStep(1), reuse=ScriptedLocks()))
    assert len(steps) == 48
    for number, seen in enumerate(steps[3:], 3):
        progress = torch.full((2,), (number - 1) / 48, dtype=torch.float64)
        wanted = (share_at(progress, SHARES[True]) * 64).ceil()
        assert ((seen.active.sum(1) - wanted).abs() <= 2).all(), number
    assert all((later.active <= earlier.active).all() for earlier, later in pairwise(steps)), "locks are for good"


def test_scripted_locks_keep_what_the_rule_itself_would_lock():
    """Else a compiler would leave its work out, and the figure would be of the script."""
    model = network("tiny-llada", "cpu", torch.float32)
    plan = Plan(PerStep(1), reuse=ScriptedLocks(eps=1e9, gate=100.0))
    state, locked = start(canvas_of(model, 2, 16, 48), plan, torch.arange(2)), []
    for _ in range(6):
        state, _ = step(model, state, plan)
        locked.append(state.reuse.rule.locked.sum(1).tolist())
    assert locked[1] == [17, 17]
    assert locked[-1] == [21, 21]
    assert (state.reuse.locked.sum(1) < 12).all()


def test_a_run_is_measured_once_nothing_is_recorded_any_more(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["decode.py"])
    Bench = runpy.run_path(str(FOLDER / "decode.py"))["Bench"]
    captured = SimpleNamespace(slow=0)
    runs = []

    class Met(Bench):
        def __init__(self):
            pass

        def run(self, model, *sizes, **parts):
            """The first two meet a pass, the third records it."""
            number = len(runs)
            runs.append(number)
            captured.slow += number < 3
            return float(number), None

    assert Met().replayed(captured, 1, 2, 3) == (3.0, None)
    assert Met().replayed(object(), 1, 2, 3) == (5.0, None)
    assert runs == list(range(6))


def test_the_roofline_is_that_of_the_design():
    with torch.device("meta"):
        model = remask.models.llada.LLaDA(LLADA_8B)
    model.config = LLADA_8B
    floor = Roofline.of(model, 4.24e12, 789e12)
    assert floor.weights == pytest.approx(7.5e9, rel=0.01)
    for rows, chosen, length, milliseconds in ((1, 32, 512, 3.6), (1, 256, 512, 5.0), (1, 512, 512, 9.9), (1, 1024, 1024, 20.2), (8, 32, 512, 5.0), (32, 32, 512, 19.8)):
        assert 1e3 * floor.seconds(rows, chosen, length) == pytest.approx(milliseconds, rel=0.03)
    with torch.device("meta"):
        dream = remask.models.dream.Dream(DREAM_7B)
    dream.config = DREAM_7B
    assert Roofline.of(dream, 1.0, 1.0).weights == pytest.approx(7.07e9, rel=0.01)


ENGINE = ["--rows", "6", "--batch", "3", "--prompt", "2", "5", "--new", "3", "6"]


@pytest.mark.parametrize(("what", "model", "way"), [("mixed", "addition", "loop"), ("arrivals", "addition", "loop"), ("flips", "addition", "loop"), ("mixed", "demo", "fused")])
def test_the_engine_is_measured(monkeypatch, capsys, what, model, way):
    monkeypatch.setattr(sys, "argv", ["engine.py", what, *ENGINE, "--model", model, "--repeats", "1", "--other", "2", "--alone", "4", "--way", way])
    if what == "arrivals":
        monkeypatch.setattr("time.process_time", lambda: pytest.fail("requests arrive by the clock, whatever the processor has done meanwhile"))
    runpy.run_path(str(FOLDER / "engine.py"), run_name="__main__")
    told = capsys.readouterr().out
    found = json.loads(told[told.index("{\n") :])
    assert (found["way"], found["rows"]) == (way, 6)
    if what == "mixed":
        assert found["rows_alike"] == 1.0
    elif what == "arrivals":
        assert 0 < found["seconds"]["wait"]["p50"] <= found["seconds"]["latency"]["p50"] <= found["seconds"]["latency"]["p99"]
        assert found["a_second"]["offered"] == pytest.approx(0.8 * found["a_second"]["full_queue"])
    else:
        assert {name: (against["rows"], against["of"]) for name, against in found["against"].items()} == {"batches of 2, shuffled": (0, 6), "one by one": (0, 4)}


def test_launches_and_positions_of_the_engine_are_counted(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(sys, "argv", ["launches.py", "--rows", "4", "--batch", "4", "--prompt", "40", "90", "--new", "8", "9", "--decoder", "low_confidence:steps=2"])
    runpy.run_path(str(FOLDER / "launches.py"), run_name="__main__")
    lines = [line.replace(",", "") for line in capsys.readouterr().out.splitlines()]
    loop, fused = ({name: float(re.search(f"{name} ([0-9.]+)", line)[1]) for name in ("step", "layer", "forwards", "canvases", "products", "head")} for line in lines)
    assert loop["canvases"] == loop["products"] == loop["head"]
    assert fused["head"] < fused["products"] < fused["canvases"]
    assert fused["layer"] < loop["layer"] / 2
    assert loop["step"] - 32 * loop["layer"] == pytest.approx(fused["step"] - 32 * fused["layer"], abs=40)


def test_differing_rows_and_tokens_are_counted():
    differing = runpy.run_path(str(FOLDER / "engine.py"))["differing"]
    found = differing({0: [1, 2], 1: [3, 4], 2: [5, 6]}, {0: [1, 2], 1: [4, 3]})
    assert (found["rows"], found["of"], found["tokens"], found["of_tokens"]) == (1, 2, 2, 4)


def test_a_network_over_two_processes_is_measured():
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(FOLDER / "parallel.py"), "--tiny", "--device", "cpu"]
    head, *lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"}).stdout.splitlines()
    assert torch.__version__ in head
    found = [json.loads(line) for line in lines]
    assert [line["way"] for line in found] == ["one", "one, captured", "split", "split, captured"]
    for line in found:
        assert (line["processes"], line["tokens as one"], line["processes agree"]) == (2, 1.0, True)
        assert line["ms a forward"] > 0
