"""The bytes that the engine counts for its rows are at least those that it uses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import remask
from remask.denoise import Plan
from remask.engine.room import Sizes, probed
from remask.models.guidance import Guided
from tests.chains import chain_b
from tests.networks import network

MEASURE = """
import gc, re, torch, remask
from remask.engine import Engine, Request
from remask.training.run import build
torch.set_num_threads(1)
status = lambda name: 1024 * int(re.search(name + r":\\s+(\\d+)", open("/proc/self/status").read())[1])
config = dict(architectures=["LLaDAModelLM"], d_model=32, n_layers=1, n_heads=2, mlp_hidden_size=32, vocab_size=20000, max_sequence_length=64,
              rope=True, rope_theta=10000.0, rms_norm_eps=1e-5, mask_token_id=19999, eos_token_id=19998)
model = build(config, torch.device("cpu")).eval().requires_grad_(False)
cases = [("wino", "surelock", "whole", ()), ("klass", "fresh", "whole", ()), ("p2:steps=9", "fresh", "whole", (remask.Temperature(1.0), remask.TopP(0.9))),
         ("threshold", "dual", "daedal:length=4,first=0,enough=2,low=1,factor=9", ())]
for decoder, reuse, window, shapers in cases * 2:  # the first round is for what the allocator keeps
    engine = Engine(model, memory=10**12)
    for seed in range(4):
        engine.submit(Request([1] * seed, 40, decoder=remask.parse_decoder(decoder), reuse=remask.parse_reuse(reuse), window=remask.parse_window(window),
                              shapers=shapers, max_forwards=4 + seed))
    gc.collect()
    before, bound = status("VmRSS"), 0
    open("/proc/self/clear_refs", "w").write("5")
    while engine.step():
        bound = max(bound, sum(engine._needs([cohort]) for cohort in engine._cohorts))
    print(status("VmHWM") - before, int(bound))
"""

EXACT = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""glibc gives back what is freed at once, so that what is resident is what is used."""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux to reset the highest resident size")
def test_no_run_uses_more_than_what_was_counted():
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1", **EXACT})
    lines = done.stdout.splitlines()
    assert len(lines) == 8, "four cases, twice"
    for used, counted in (map(int, line.split()) for line in lines[4:]):
        assert counted / 5 < used <= counted, "a bound, and not an absurd one"


def test_sizes_are_those_of_the_network():
    sizes = Sizes.of(network("grouped"))
    assert (sizes.logits, sizes.hidden) == (4 * 20, 4 * 32)
    assert sizes.store == 2 * 3 * 4 * 2 * 8, "keys and values of 3 layers, 2 key heads of width 8"
    assert Sizes.of(Guided(network("grouped"), 1.0)).store == 2 * sizes.store
    assert Sizes.of(chain_b()).store == 0


def test_what_parts_remember_and_shadows_are_counted():
    model = network("llada")
    plain, klass, wino = (probed(model, Plan(remask.parse_decoder(name))) for name in ("threshold", "klass", "wino"))
    assert plain == (0, False)
    assert klass == (pytest.approx(4 * 20 + 8), False)
    assert wino == (0, True)
    assert Sizes.of(model).row(Plan(), *wino) > Sizes.of(model).row(Plan(), *plain)
