"""What the two shipped networks of fiction make of a text with one wrong token."""

import torch

import remask
from remask.continuous import decode_sde, log_normal

TEXT = (
    '"I do not know what you mean," said the old man, and he went out of the room. "What is the matter?" she asked. '
    "He did not answer, but he sat down in his chair and looked at the fire for a long time."
)


def restored(model):
    """Of all places, each made wrong in a row of its own: how many one pass puts right."""
    tokens = torch.tensor(model.tokenizer.encode(TEXT))
    place = torch.arange(len(tokens))
    rows = tokens.repeat(len(tokens), 1)
    rows[place, place] = (tokens + 1234) % 4094
    return int((model.logits(rows)[place, place, : model.mask_id].argmax(-1) == tokens).sum()), len(tokens)


def test_the_dsl_network_corrects_what_the_masked_one_cannot_see():
    """Of 53 places 3, and 22, 27, 43 shown at SNR 100, 16, 12 when they were shipped; of the text as it is one place is not kept."""
    masked, states = remask.load("fiction", dtype="float32"), remask.load("fiction-dsl", dtype="float32")
    seen, count = restored(masked)
    assert seen < 0.12 * count
    found = []
    for states.snr_max in (100.0, 16.0, 12.0):
        found.append(restored(states)[0] / count)
    assert 0.38 < found[0] < found[1] < 0.6 < 0.75 < found[2]
    states.snr_max = 16.0
    tokens = torch.tensor([states.tokenizer.encode(TEXT)])
    assert int((states.logits(tokens)[..., : states.mask_id].argmax(-1) != tokens).sum()) <= 1


def test_the_dsl_network_walks_the_sde():
    model = remask.load("fiction-dsl", dtype="float32")
    canvas = remask.Canvas.from_prompts([[]], max_new_tokens=24, mask_id=model.mask_id)
    found = decode_sde(model, canvas, grid=log_normal(6, 2.3, 1.0, last=75.0), seed=1)
    assert found.forwards.tolist() == [6]
    assert len(set(found.tokens[0].tolist())) > 6
    assert int(found.tokens[0].max()) < model.mask_id
