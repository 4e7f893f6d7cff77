"""Random requests, and what each is written with when it is alone."""

import random

import torch

import remask
from remask.engine import Request
from remask.windows.base import room
from tests.laws.test_laws import DECODER_SPECS, STORING, WHOLE_ROWS

WINDOWS = ["whole", "blocks:3", "blocks:4,origin=canvas"]


def mix(seed: int, count: int, symbols: int, mask: int, decoders=DECODER_SPECS, longest: int = 20) -> list[Request]:
    """Requests of every length with every kind of part; one in six prompts has masks inside.

    Every prompt has a known token: on a canvas of nothing but masks a network finds all positions as likely, up to rounding.
    """
    chance = random.Random(seed)
    made = []
    for number in range(count):
        prompt = [chance.randrange(symbols) for _ in range(chance.randrange(1, 10))]
        if len(prompt) > 1 and chance.random() < 1 / 6:
            prompt[chance.randrange(len(prompt))] = mask
        parts = dict(
            decoder=remask.parse_decoder(chance.choice(decoders)),
            window=remask.parse_window(chance.choice(WINDOWS)),
            reuse=remask.parse_reuse(chance.choice([*WHOLE_ROWS, *STORING])),
            shapers=chance.choice([(), (remask.Temperature(1.0),), (remask.TopK(3), remask.Temperature(0.5))]),
        )
        made.append(Request(prompt, chance.randrange(1, longest), seed=chance.randrange(1000), early_stop=chance.random() < 0.8, **parts))
    return made


def alone(model, request: Request) -> tuple[list[int], int, int]:
    """Tokens, forwards and positions of a request that is decoded by itself."""
    prompt = list(request.prompt_ids)
    prompt += [model.mask_id] * room(request.window, prompt, request.max_new_tokens, model.mask_id)
    canvas = remask.Canvas.from_prompts([prompt], mask_id=model.mask_id)
    parts = dict(decoder=request.decoder, window=request.plan.window, reuse=request.reuse, shapers=request.shapers)
    for last in remask.denoise(model, canvas, seed=request.seed, early_stop=request.early_stop, **parts):
        pass
    return last.canvas.tokens[0].tolist(), int(last.forwards[0]), int(last.positions[0])


def told(update) -> tuple[list[int], int, int]:
    """The same of an engine's last update."""
    return update.tokens.tolist(), update.forwards, update.positions


def arrive(engine, requests, seed: int):
    """Submit at random moments while the engine runs; the tickets in the order of the requests."""
    chance = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(requests), generator=chance).tolist()
    tickets = {}
    for number in order:
        tickets[number] = engine.submit(requests[number])
        for _ in range(int(torch.randint(3, (1,), generator=chance))):
            engine.step()
    while engine.step():
        pass
    return [tickets[number] for number in range(len(requests))]
