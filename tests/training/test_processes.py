"""Runs in processes of their own: two that share the work of one, and one that is killed and continued."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from remask.training.run import Run, train
from remask.training.shards import read_shards
from tests.training.counting import first_gradients, recipe

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}


def start(folder, steps, save_every, *launcher):
    command = [sys.executable, *launcher, "-m", "tests.training.counting", str(folder), str(steps), str(save_every)]
    return subprocess.Popen(command, env=ENVIRONMENT, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_learn_what_one_learns_from_both_their_rows(tmp_path):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    (tmp_path / "two").mkdir()
    process = start(tmp_path / "two", 8, 10**6, *launcher)
    train(recipe(8), tmp_path / "one", compiled=False, every=4)
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    one, two = (metrics(tmp_path / name) for name in ("one", "two"))
    assert [line["step"] for line in one] == [line["step"] for line in two] == [4, 8]
    for alone, shared in zip(one, two, strict=True):
        assert shared["loss"] == pytest.approx(alone["loss"], rel=0.01)
    alone = first_gradients(Run(recipe(3), tmp_path / "alone", init=None, device="cpu", compiled=False))
    ranks = [torch.load(tmp_path / "two" / f"rank{rank}.pt") for rank in (0, 1)]
    for kind in ("weights", "gradients"):
        assert all(torch.equal(ranks[0][kind][name], ranks[1][kind][name]) for name in alone)
    for name, gradient in alone.items():  # weights drift apart from here: Muon makes much of the rounding of bfloat16
        assert (ranks[0]["gradients"][name] - gradient).norm() < 0.01 * gradient.norm(), name


def test_a_run_killed_at_any_moment_ends_with_the_weights_of_one_that_was_not(tmp_path):
    steps, rng = 150, random.Random()
    train(recipe(steps), tmp_path / "whole", compiled=False, every=4)
    killed = 0
    for _ in range(2):
        process = start(tmp_path / "parts", steps, 3)
        while process.poll() is None and not (tmp_path / "parts" / "state").exists():
            time.sleep(0.01)
        time.sleep(rng.random() * 0.5)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        process.stdout.close()
    process = start(tmp_path / "parts", steps, 3)
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert killed
    whole, parts = (read_shards(tmp_path / name / "state") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert [line["step"] for line in metrics(tmp_path / "parts")] == [line["step"] for line in metrics(tmp_path / "whole")]


def test_weights_alone_start_a_run_anew(tmp_path):
    checkpoint = train(recipe(6), tmp_path / "first", compiled=False, every=4)
    run = Run(recipe(6), tmp_path / "second", init=checkpoint, device="cpu", compiled=False)
    stored = read_shards(checkpoint)
    assert run.step == 0
    assert all(torch.equal(parameter, stored[name].float()) for name, parameter in run.model.named_parameters())
    assert not any(optimizer.state for optimizer in run.optimizers)
    train(recipe(6), tmp_path / "second", init=checkpoint, compiled=False, every=3)
    first, second = metrics(tmp_path / "first"), metrics(tmp_path / "second")
    assert second[0]["rate"] == pytest.approx(1.0)
    assert second[0]["loss"] < first[0]["loss"]


def test_steps_that_a_kill_has_undone_leave_no_metrics(tmp_path):
    train(recipe(8), tmp_path, compiled=False, every=4)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 12, "loss": 1.0}\n{"step": 16, "lo')
    train(recipe(12), tmp_path, compiled=False, every=4)
    assert [line["step"] for line in metrics(tmp_path)] == [4, 8, 12]
