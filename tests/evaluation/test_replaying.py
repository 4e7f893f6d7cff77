"""What a bench times on a model that records its passes."""

import pytest

import remask
from remask.captured import Captured
from remask.evaluation.replaying import RUNS, replayed
from tests.networks import canvas, network
from tests.test_captured import replaying

PLANS = [{"decoder": remask.Threshold(0.2), "window": remask.Blocks(length)} for length in (12, 6)]
"""As many passes are met in the first run of the second as the first has met when it is replayed, and none is recorded in it."""


def decoding(model, parts, runs):
    def run():
        runs.append(parts)
        return list(remask.denoise(model, canvas(), **parts))

    return run


@pytest.mark.parametrize("sessions", [1, 2])
def test_what_is_timed_has_recorded_nothing_however_few_sessions_are_kept(monkeypatch, sessions):
    """With one session each plan drops the other's, and what was met of it."""
    model = network("llada")
    captured = Captured(model, sessions=sessions)
    recorded = replaying(monkeypatch, captured)
    for batch in range(3):
        for parts in PLANS:
            runs, counted = [], []
            decode = decoding(captured, parts, runs)
            made = replayed(captured, lambda decode=decode, counted=counted: (counted.append((captured.slow, len(recorded))), decode())[1])
            assert counted[-1] == (captured.slow, len(recorded)), "the last run added nothing"
            assert len(runs) == (4 if batch == 0 or sessions == 1 else 1)
            assert made[-1].canvas.tokens.equal(list(remask.denoise(model, canvas(), **parts))[-1].canvas.tokens)


def test_a_model_that_records_nothing_is_run_once():
    for model in (network("llada"), Captured(network("llada"))):
        runs = []
        assert replayed(model, decoding(model, PLANS[0], runs))
        assert len(runs) == 1


def test_what_never_ends_recording_is_no_figure(monkeypatch):
    captured, runs = Captured(network("llada"), graphs=1), []
    replaying(monkeypatch, captured)
    with pytest.raises(remask.RemaskError, match=r"for the 6th time; leave out --captured, or try a smaller --batch; from Python a larger Captured\(graphs=, sessions=\)"):
        replayed(captured, decoding(captured, {"reuse": remask.Dual(), "window": remask.Blocks(6)}, runs))
    assert len(runs) == RUNS
