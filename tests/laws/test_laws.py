"""The laws of the loop, over every registered decoder x window x reuse."""

import itertools
from dataclasses import MISSING, fields

import pytest
import torch

import remask
from remask.denoise import Plan, grown, look, start, step
from tests.chains import chain_b


def has_defaults(kind):
    """Whether a bare name is a part: every parameter has a default."""
    return all(field.default is not MISSING for field in fields(kind))


DECODER_SPECS = [
    *(name for name, kind in remask.decoders().items() if has_defaults(kind)),
    "low_confidence:steps=6",
    "low_confidence:steps=6,literal_blocks=4",
    "low_confidence:last=2+7",
    "random:steps=6",
    "origin:steps=6",
    "entropy:steps=6",
    "topk_margin:alg_temp=0.3",
    "threshold:0.3,at_most=2",
    "ancestral:steps=9",
    "spaced:inner=(entropy_bound:gamma=2)",
    "dus:threshold=0.7",
    "remdm:steps=9",
    "remdm:steps=9,strategy=conf",
    "remdm:steps=9,strategy=loop,eta=0.1",
    "p2:steps=7",
    "core:every=2,suspects=3",
    "joint_threshold:write_tau=0.5,edit_tau=0.6",
    "joint_threshold:write_tau=0.4,edit_tau=0.5,remask=true",
    "prophet:early=2,middle=2,late=1,answer=tail",
    "slow_fast:slow_steps=2,slow_tau=0.9",
    "hierarchy:remask=true",
    "prophet:smooth=true",
    "credit:reset=false",
    "halton:base=3,steps=6",
    "starr:signals=distribution,top=4",
    "starr:reading=H3,fast_steps=2,slow_steps=3,neighbours=commit_conf",
]
WINDOW_SPECS = [*(name for name, kind in remask.windows().items() if not kind.grows), "blocks:3", "blocks:4,origin=canvas", "daedal:eos=0,block=4,first=0,low=0"]
"""Canvases that grow are held to the laws in tests/test_daedal.py, by their source maps."""
WHOLE_ROWS = [name for name, kind in remask.reuses().items() if not kind.stores]
STORING = [*(name for name, kind in remask.reuses().items() if kind.stores), "dual:inner=(surelock:eps=0.1)", "surelock:on_remask=forbid,eps=0.1"]
COMBINATIONS = [
    *itertools.product(DECODER_SPECS, WINDOW_SPECS, WHOLE_ROWS),
    *itertools.product([name for name in DECODER_SPECS if ":" not in name], ["whole", "blocks:3"], STORING),
]
MASK = 8
PROMPTS = [[0, 1], [3, 4, 5, MASK, 2], [7], [1, MASK, MASK, 6]]


def parts(combination, **more):
    decoder, window, reuse = combination
    return dict(decoder=remask.parse_decoder(decoder), window=remask.parse_window(window), reuse=remask.parse_reuse(reuse), shapers=(remask.Temperature(1.0),), **more)


def run(prompts, combination, seed, new=12):
    canvas = remask.Canvas.from_prompts(prompts, max_new_tokens=new, mask_id=MASK)
    steps = list(remask.denoise(chain_b(), canvas, **parts(combination, seed=seed)))
    return canvas, steps


@pytest.mark.parametrize("combination", COMBINATIONS, ids="-".join)
def test_the_laws_hold(combination):
    canvas, steps = run(PROMPTS, combination, 5)
    final = steps[-1].canvas
    assert not final.masked.any(), "every run ends with nothing masked"
    assert len(steps) <= 40 * canvas.shape[1], "every run ends, and soon"
    before, finished = canvas, torch.zeros(canvas.shape[0], dtype=torch.bool)
    edited, stale = canvas.real, remask.parse_reuse(combination[2]).stale
    for seen in steps:
        assert torch.equal(seen.canvas.tokens[canvas.given], canvas.tokens[canvas.given]), "given positions never change"
        assert not (seen.edit.write & before.given).any()
        assert not (seen.edit.tokens[seen.edit.write] == MASK).any(), "a written token is never the mask"
        if not stale:
            assert not (edited & ~seen.active & ~finished[:, None]).any(), "what was edited is computed next"
        edited = seen.edit.touched
        assert torch.equal(seen.canvas.tokens[finished], before.tokens[finished]), "a finished row is frozen"
        assert not seen.active[finished].any(), "a finished row costs nothing"
        before, finished = seen.canvas, seen.done
    if combination[1] in ("whole", "blocks:4,origin=canvas"):
        decoded = remask.decode(chain_b(), PROMPTS, max_new_tokens=12, **parts(combination, seed=5))

        assert all(torch.equal(row, tokens[real]) for row, tokens, real in zip(decoded.tokens, final.tokens, final.real, strict=True)), "decode equals the last step of denoise"


@pytest.mark.parametrize("window", WINDOW_SPECS)
@pytest.mark.parametrize("decoder", ["low_confidence", "threshold:0.3", "p2:steps=7"])
def test_no_more_positions_are_open_than_the_window_says(decoder, window):
    model, canvas = chain_b(), remask.Canvas.from_prompts(PROMPTS, max_new_tokens=12, mask_id=MASK)
    plan = Plan(remask.parse_decoder(decoder), remask.parse_window(window))
    most = torch.tensor([plan.window.most_open(plan.window.most_new(new)) for new in canvas.masked.sum(1).tolist()])
    state = start(canvas, plan, torch.arange(len(PROMPTS)))
    while not bool(state.done.all()):
        state, _ = grown(model, state, plan)
        assert (look(state, plan).eligible.sum(1) <= most).all()
        state, _ = step(model, state, plan)


@pytest.mark.parametrize("combination", COMBINATIONS, ids="-".join)
def test_a_row_does_not_notice_its_neighbours(combination):
    together = run(PROMPTS, combination, [5, 6, 7, 8])[1][-1]
    order = [2, 0, 3, 1]
    reordered = run([PROMPTS[i] for i in order], combination, [5 + i for i in order])[1][-1]
    for place, row in enumerate(order):
        alone = run([PROMPTS[row]], combination, 5 + row)[1][-1]
        tokens = together.canvas.tokens[row][together.canvas.real[row]]
        assert torch.equal(tokens, alone.canvas.tokens[0])
        assert torch.equal(tokens, reordered.canvas.tokens[place][reordered.canvas.real[place]])
        assert together.forwards[row] == alone.forwards[0] == reordered.forwards[place]
        assert together.positions[row] == alone.positions[0]


@pytest.mark.parametrize(("decoder", "window"), list(itertools.product(DECODER_SPECS, WINDOW_SPECS)))
def test_reuse_of_unchanged_rows_changes_nothing_but_the_count(decoder, window):
    fresh, unchanged = (run(PROMPTS, (decoder, window, reuse), 3)[1] for reuse in ("fresh", "unchanged"))
    assert torch.equal(fresh[-1].canvas.tokens, unchanged[-1].canvas.tokens)
    assert (unchanged[-1].forwards <= fresh[-1].forwards).all()


@pytest.mark.parametrize("window", ["whole", "blocks:3", "blocks:6", "blocks:4,origin=canvas"])
@pytest.mark.parametrize("decoder", DECODER_SPECS)
def test_decode_is_the_last_step_of_denoise(decoder, window):
    canvas, steps = run(PROMPTS[::2], (decoder, window, "fresh"), 5)
    decoded = remask.decode(chain_b(), PROMPTS[::2], max_new_tokens=12, **parts((decoder, window, "fresh"), seed=5))
    for row, tokens in enumerate(decoded.tokens):
        assert torch.equal(tokens, steps[-1].canvas.tokens[row][canvas.real[row]])
    assert torch.equal(decoded.forwards, steps[-1].forwards)
    assert torch.equal(decoded.positions, steps[-1].positions)


PARTS = [(remask.parse_decoder, DECODER_SPECS), (remask.parse_window, WINDOW_SPECS), (remask.parse_reuse, [*remask.reuses(), *STORING])]


def as_python(part):
    """The part that its repr is the code of."""
    return eval(repr(part), {**vars(remask), type(part).__name__: type(part)})


@pytest.mark.parametrize(("parse", "text"), [(parse, text) for parse, texts in PARTS for text in texts])
def test_a_part_is_its_spec_string(parse, text):
    assert parse(str(parse(text))) == parse(text)
    assert as_python(parse(text)) == parse(text)


@pytest.mark.parametrize("text", [*DECODER_SPECS, "threshold:0.7,strict=true", "factor:2", "low_confidence:score=sampled,mask_candidates=true"])
def test_a_decoder_survives_its_spec_string(text):
    decoder = remask.parse_decoder(text)
    assert remask.parse_decoder(remask.spec(decoder)) == decoder
    assert as_python(decoder) == decoder


@pytest.mark.parametrize("loose_tight", [("threshold:0.5", "threshold:0.9"), ("factor:3", "factor:0.5")])
def test_a_looser_setting_accepts_a_superset(loose_tight):
    canvas = remask.Canvas.from_prompts([[0], [2, 2]], max_new_tokens=20, mask_id=MASK)
    loose, tight = (next(iter(remask.denoise(chain_b(), canvas, decoder=remask.parse_decoder(text)))).edit.write for text in loose_tight)
    assert (loose | ~tight).all()
    assert loose.sum() > tight.sum()
