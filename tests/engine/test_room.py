"""The bytes that the engine counts for its rows are at least those that it uses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import remask
from remask.denoise import Plan
from remask.engine import Engine, Request
from remask.engine.room import Sizes, probed
from remask.models.fused_model import FusedModel
from remask.models.guidance import Guided
from tests.chains import chain_b
from tests.networks import network

MEASURE = """
import gc, re, torch, remask
from remask.engine import Engine, Request
from remask.models.fused_model import FusedModel
from remask.training.run import build
torch.set_num_threads(1)
status = lambda name: 1024 * int(re.search(name + r":\\s+(\\d+)", open("/proc/self/status").read())[1])
config = dict(architectures=["LLaDAModelLM"], d_model=32, n_layers=1, n_heads=2, mlp_hidden_size=32, vocab_size=20000, max_sequence_length=64,
              rope=True, rope_theta=10000.0, rms_norm_eps=1e-5, mask_token_id=19999, eos_token_id=19998)
model = build(config, torch.device("cpu")).eval().requires_grad_(False)
fused = FusedModel(model)
whole = [(model, "wino", "surelock", "whole", (), 40), (model, "klass", "fresh", "whole", (), 40),
         (model, "p2:steps=9", "fresh", "whole", (remask.Temperature(1.0), remask.TopP(0.9)), 40),
         (model, "threshold", "dual", "daedal:length=4,first=0,enough=2,low=1,factor=9", (), 40)]
lazy = [(fused, "threshold", "fresh", "whole", (), 40), (fused, "threshold", "dual", "blocks:8", (), 40), (fused, "klass", "fresh", "whole", (), 40),
        (fused, "threshold", "fresh", "blocks:16", (remask.Temperature(1.0), remask.TopP(0.9)), 48), (fused, "threshold", "surelock", "whole", (), 40)]
for network, decoder, reuse, window, shapers, new in (*whole, *lazy) * 2:  # the first round is for what the allocator keeps
    engine = Engine(network, memory=10**12)
    for seed in range(4):
        engine.submit(Request([1] * (seed + 1), new, decoder=remask.parse_decoder(decoder), reuse=remask.parse_reuse(reuse), window=remask.parse_window(window),
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
    assert len(lines) == 18, "nine cases, twice"
    for used, counted in (map(int, line.split()) for line in lines[9:]):
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
    assert plain == (0, False, False)
    assert klass == (pytest.approx(4 * 20 + 8), False, True)
    assert wino == (0, True, True)
    assert Sizes.of(model).row(Plan(), *wino).of(9, 9) > Sizes.of(model).row(Plan(), *plain).of(9, 9)


@pytest.mark.parametrize("lazy", [False, True])
def test_each_thing_counts_as_often_as_it_lies_in_memory(lazy):
    """What one more of each adds, in bytes a position: copies that are made when rows join are hard to see in what is resident."""
    logits, store, hidden = 1, 1_000, 1_000_000
    sizes = Sizes(logits, store, hidden, lazy)

    def counted(remembered=0.0, shadows=False, everywhere=False, **parts):
        need = sizes.row(Plan(**parts), remembered, shadows, everywhere)
        return need.position, need.read

    position, read = counted()
    assert (position, read) == ((26 * hidden, 5 * logits) if lazy else (24 * hidden + 6 * logits, 0)), "kept twice; copies of a step"
    assert counted(everywhere=True) == (position + read, 0)
    assert counted(remembered=7.0) == (position + 3 * 7, read)
    assert counted(shadows=True) == (position + 4 * logits + 24 * hidden, read)
    assert counted(reuse=remask.Dual()) == (position + 2 * store, read)
    assert counted(reuse=remask.SureLock()) == (24 * hidden + 2 * store + 6 * logits, 0), "logits are kept"
    for shaper, more in ((remask.TopK(5), 6), (remask.Temperature(0.8), 6 + 4)):
        assert sum(counted(shapers=(shaper,))) == position + read + more * logits, shaper


@pytest.mark.parametrize(("decoder", "window"), [("low_confidence", "whole"), ("low_confidence", "blocks:3"), ("klass", "blocks:3"), ("low_confidence", "daedal:length=6,eos=18")])
@pytest.mark.parametrize("reuse", ["fresh", "dual", "delayed", "surelock"])
@pytest.mark.parametrize("kind", [lambda model: model, FusedModel], ids=["logits", "states"])
@pytest.mark.parametrize("family", ["llada", "dream"])
def test_what_is_kept_is_counted_to_the_byte(family, kind, reuse, window, decoder):
    model = kind(network(family))
    sizes, parts = Sizes.of(model), {"decoder": remask.parse_decoder(decoder), "window": remask.parse_window(window), "reuse": remask.parse_reuse(reuse)}
    engine = Engine(model, forward_cost=10_000)
    for length in (1, 2, 4):
        engine.submit(Request([1] * length, 6, early_stop=False, **parts))
    engine.step()
    (cohort,) = engine._cohorts
    plan = cohort.groups[0].plan
    assert cohort.kept.rows is None or len(cohort.kept.rows) == cohort.count == 3
    assert cohort.kept.nbytes == cohort.count * cohort.length * sizes.kept(plan)
    assert 2 * cohort.kept.nbytes < engine._needs([cohort])
    assert cohort.kept.lazy == (kind is FusedModel and reuse != "surelock" and not plan.window.grows)


@pytest.mark.parametrize("seen", [False, True])
@pytest.mark.parametrize("decoder", ["low_confidence", "klass", "starr:temporal_source=logit"])
@pytest.mark.parametrize("window", ["whole", "blocks:3", "blocks:4,origin=canvas"])
def test_a_lazy_head_is_run_at_no_more_positions_than_are_counted(window, decoder, seen, monkeypatch):
    """As many as the window opens at once, or all where a decoder or an observer reads them."""
    model = FusedModel(network("llada"))
    engine, counts = Engine(model, forward_cost=10_000), []
    for length in (1, 2, 4):
        engine.submit(Request([1] * length, 12, decoder=remask.parse_decoder(decoder), window=remask.parse_window(window), record=seen, early_stop=False))
    monkeypatch.setattr(FusedModel, "head", lambda self, hidden, head=FusedModel.head: counts.append(hidden.shape[:-1].numel()) or head(self, hidden))
    engine.step()
    rows = [row for cohort in engine._cohorts for row in cohort.riders]
    most = max(row.longest for row in rows)
    counted = sum(row.most_open if row.need.read else most for row in rows)
    assert (counted < 3 * most) == (decoder != "klass" and not seen)
    while engine.step():
        pass
    assert max(counts) <= counted
    assert max(counts) == counted or "origin" in window, "and no fewer, but in blocks that begin before the text"
