"""The memory of every part survives what an engine does to rows: they change places, join at different steps, get padding, leave."""

import itertools
from dataclasses import fields, is_dataclass

import pytest
import torch
from torch import Tensor

import remask
from remask import memory
from remask.denoise import Plan, State, start, step
from tests.chains import chain_b
from tests.laws.test_laws import COMBINATIONS, DECODER_SPECS, MASK, PROMPTS, STORING, WHOLE_ROWS, parts

REVISING = "joint_threshold:write_tau=0.4,edit_tau=0.5,remask=true"
MIXES = [
    *((decoder, "blocks:3", "fresh") for decoder in DECODER_SPECS),
    *itertools.product(["threshold:0.6", REVISING], ["whole", "blocks:4,origin=canvas"], [*WHOLE_ROWS, *STORING, "surelock:eps=1e9,gate=100"]),
]


def plan(combination) -> Plan:
    return Plan(**parts(combination))


def begin(made: Plan, rows) -> State:
    canvas = remask.Canvas.from_prompts([PROMPTS[row] for row in rows], max_new_tokens=12, mask_id=MASK)
    return start(canvas, made, torch.tensor(rows) + 5)


def finish(model, state: State, made: Plan, rows) -> dict[int, tuple[list[int], int, int]]:
    while not bool(state.done.all()):
        state, _ = step(model, state, made)
    return {row: (state.canvas.tokens[place][state.canvas.real[place]].tolist(), int(state.forwards[place]), int(state.positions[place])) for place, row in enumerate(rows)}


@pytest.mark.parametrize("combination", MIXES, ids="-".join)
@torch.inference_mode()
def test_rows_that_move_join_and_leave_are_written_as_undisturbed_ones(combination):
    made, model = plan(combination), chain_b()
    expected = finish(model, begin(made, [0, 1, 2, 3]), made, [0, 1, 2, 3])

    first, rows = begin(made, [0, 2]), [0, 2]
    for _ in range(3):
        first, _ = step(model, first, made)
    second, others = begin(made, [1, 3]), [3, 1]
    state = State.joined([first, second.rows(torch.tensor([1, 0]))])  # a longer canvas, another order
    state, rows = state.rows(torch.tensor([2, 0, 3, 1])), [others[0], rows[0], others[1], rows[1]]
    found = {}
    while rows:
        state, _ = step(model, state, made)
        stay = (~state.done).nonzero()[:, 0]
        for place in state.done.nonzero()[:, 0].tolist():
            found[rows[place]] = (state.canvas.tokens[place][state.canvas.real[place]].tolist(), int(state.forwards[place]), int(state.positions[place]))
        rows = [rows[place] for place in stay.tolist()]
        state = state.rows(stay) if rows else state
    assert found == expected


def tensors(remembered):
    if isinstance(remembered, Tensor):
        return [remembered]
    if isinstance(remembered, tuple):
        return [tensor for part in remembered for tensor in tensors(part)]
    return [tensor for field in fields(remembered) for tensor in tensors(getattr(remembered, field.name))] if is_dataclass(remembered) else []


@pytest.mark.parametrize("combination", COMBINATIONS[:: len(COMBINATIONS) // 150], ids="-".join)
@torch.inference_mode()
def test_memories_have_rows_first_and_positions_second(combination):
    made = plan(combination)
    state = begin(made, [0, 1, 2])
    for _ in range(2):
        memory.check((state.decoder, state.window, state.reuse), 3, state.canvas.shape[1])
        state, _ = step(chain_b(), state, made)


@pytest.mark.parametrize("decoder", DECODER_SPECS)
@torch.inference_mode()
def test_a_memory_that_moves_nowhere_is_the_same(decoder):
    made = plan((decoder, "blocks:3", "fresh"))
    state = begin(made, [0, 1, 2])
    state, _ = step(chain_b(), state, made)
    state, _ = step(chain_b(), state, made)
    source = torch.arange(state.canvas.shape[1]).expand(3, -1)
    after = memory.moved(state.decoder, source, made.decoder.init(state.canvas))
    for old, new in zip(tensors(state.decoder), tensors(after), strict=True):
        assert torch.equal(old.nan_to_num(-1), new.nan_to_num(-1))
