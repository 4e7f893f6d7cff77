"""Nothing in a captured pass waits for the device: counted by a test double, since a CUDA graph would refuse it."""

import pytest
import torch

import remask
from remask.captured import Captured, Session
from remask.models.fused import Fused
from tests.laws.test_laws import DECODER_SPECS, STORING
from tests.networks import CONFIGS, canvas, network
from tests.waits import Waits

FULL = ((3, 1, 4, 1), (1, 5, 9, 2))


def waits(monkeypatch, model, *, body=None, prompts=((3, 1, 4), (1, 5, 9, 2, 6)), decoder="threshold:0.2", window="blocks:6", reuse="dual", shapers=(), early_stop=False):
    """What every pass but the first met, and how many there were."""
    met, again, passes = [], Session.again, 0

    def watched(session):
        with Waits() as counted:
            result = again(session)
        met.append(dict(counted.met))
        return result

    monkeypatch.setattr(Session, "again", watched)
    parts = {"decoder": remask.parse_decoder(decoder), "window": remask.parse_window(window), "reuse": remask.parse_reuse(reuse), "shapers": shapers, "early_stop": early_stop}
    for _ in remask.denoise(Captured(model, body=None if body is None else body(model)), canvas(prompts), **parts):
        passes += 1
    assert len(met) == passes - 1 > 0
    return [each for each in met if each]


@pytest.fixture
def background(tmp_path):
    (tmp_path / "counts.json").write_text(str([1, 2, 3, 4] * 8))
    return tmp_path / "counts.json"


@pytest.mark.parametrize("decoder", [*(text for text in DECODER_SPECS if not text.startswith("wino")), "pc:background={}"])
def test_a_decoder_waits_if_it_says_so(monkeypatch, decoder, background):
    decoder = decoder.format(background)
    monkeypatch.setattr("remask.captured.check_fixed", lambda plan, state: None)
    assert bool(waits(monkeypatch, network("llada"), body=Fused, decoder=decoder)) == remask.parse_decoder(decoder).waits


@pytest.mark.parametrize("reuse", ["surelock:every=2", "dual:inner=(surelock:every=2,eps=0.1)"])
def test_a_reuse_rule_that_says_so_waits(monkeypatch, reuse):
    monkeypatch.setattr("remask.captured.check_fixed", lambda plan, state: None)
    assert remask.parse_reuse(reuse).waits
    assert waits(monkeypatch, network("llada"), body=Fused, reuse=reuse, decoder="low_confidence")


@pytest.mark.parametrize("family", ["llada", "dream"])
@pytest.mark.parametrize("reuse", ["fresh", "unchanged", *STORING, "surelock:recheck=3"])
def test_no_reuse_rule_waits(monkeypatch, family, reuse):
    assert not waits(monkeypatch, network(family), body=Fused, reuse=reuse)


def test_a_row_that_computes_nothing_for_a_while_does_not_wait(monkeypatch):
    assert not waits(monkeypatch, network("llada"), body=Fused, decoder="ancestral:steps=30", reuse="dual:inner=(unchanged)")


@pytest.mark.parametrize("shaper", [remask.Temperature(0.7), remask.TopP(0.9), remask.TopK(3), remask.Suppress((3, 4))])
def test_no_shaper_waits(monkeypatch, shaper):
    assert not waits(monkeypatch, network("llada"), body=Fused, decoder="low_confidence", shapers=(shaper,), early_stop=True, window="whole")


@pytest.mark.parametrize("family", CONFIGS)
def test_no_network_waits_where_nothing_is_padded(monkeypatch, family):
    assert not waits(monkeypatch, network(family), prompts=FULL)


@pytest.mark.parametrize("family", CONFIGS)
def test_no_network_waits_where_rows_are_padded_and_a_graph_is_recorded(monkeypatch, family):
    assert waits(monkeypatch, network(family))
    monkeypatch.undo()
    monkeypatch.setattr("remask.models.attention.recording", lambda: True)
    assert not waits(monkeypatch, network(family))


def test_the_double_sees_what_it_is_for():
    x = torch.tensor([1.0, 0.0])
    tries = [lambda: bool(x[0]), lambda: int(x[0]), lambda: x.nonzero(), lambda: x[x > 0], lambda: x.tolist(), lambda: torch.tensor([1]), lambda: x.index_put((x > 0,), x[:1])]
    tries += [lambda: x.to("cpu"), lambda: x.to(x.device), lambda: x.to(device="cpu"), lambda: x.to(x), lambda: torch.as_tensor([1])]
    for each in tries:
        with Waits() as counted:
            each()
        assert counted.met
    with Waits() as counted:
        x.to(torch.float64)
    assert not counted.met
