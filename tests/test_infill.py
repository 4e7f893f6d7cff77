"""Any positions may be given: what stands there stays, and what is made fits it."""

import random

import pytest
import torch

import remask
from remask import RemaskError
from remask.evaluation import tasks
from remask.evaluation.harness import evaluate
from remask.evaluation.tasks.base import Item
from tests.networks import network

ITEM = tasks.get("sudoku").sample(1, seed=21)[0]


@pytest.fixture(scope="module")
def sudoku():
    return remask.load("sudoku", dtype="float32")


@pytest.mark.parametrize("decoder", ["threshold:tau=0.9", "topk_margin:steps=12", "wino"])
@pytest.mark.parametrize("reuse", ["fresh", "dual"])
def test_decode_fills_the_holes_of_a_row_wherever_they_are(sudoku, decoder, reuse):
    rng = random.Random(4)
    prompt, answer = ([int(digit) for digit in text] for text in (ITEM.prompt, ITEM.answer))
    rows = [prompt + [token if rng.random() < share else sudoku.mask_id for token in answer] for share in (0.3, 0.6, 1.0)]
    decoded = remask.decode(sudoku, rows, decoder=remask.parse_decoder(decoder), reuse=remask.parse_reuse(reuse))
    assert [row.tolist() for row in decoded.tokens] == [prompt + answer] * 3
    assert decoded.forwards[2] == 0, "a row without a hole costs nothing"


def test_generate_fills_a_gap_between_two_texts(sudoku):
    answer = ITEM.answer
    made = remask.generate(sudoku, [ITEM.prompt] * 2, max_new_tokens=54, after=[answer[54:], answer[54:]], decoder=remask.Threshold(0.9))
    assert [completion.text for completion in made] == [answer[:54]] * 2
    assert made[0].stats.generated == 54
    in_blocks = remask.generate(sudoku, [ITEM.prompt], max_new_tokens=54, after=[answer[54:]], window=remask.Blocks(16), decoder=remask.Threshold(0.9))[0]
    assert in_blocks.text == answer[:54]
    with pytest.raises(RemaskError, match="1 texts stand behind 2 prompts"):
        remask.generate(sudoku, ["1", "2"], max_new_tokens=4, after=["3"])


def test_an_item_with_text_behind_its_gap_is_evaluated_with_it(sudoku):
    answer = ITEM.answer
    item = Item(ITEM.prompt, answer[:54], "gap", lambda text: text == answer[:54], after=answer[54:])
    (record,) = evaluate(sudoku, [item], max_new_tokens=54, decoder=remask.Threshold(0.9))
    assert record["right"]
    assert record["generated"] == 54


@pytest.mark.parametrize("family", ["llada", "dream", "mdlm", "timed"])
def test_a_hole_is_filled_in_the_light_of_both_sides(family):
    model = network(family)
    holes = torch.tensor([[3, 1, 19, 19, 4, 2], [3, 1, 19, 19, 4, 7]])
    first = next(remask.denoise(model, remask.Canvas.from_prompts(holes, mask_id=19))).prediction.raw.logits
    assert (first[0, 2, :19] - first[1, 2, :19]).abs().max() > 1e-3, "what stands behind it counts"
    decoded = remask.decode(model, holes)
    assert [(row[:2].tolist(), row[4:].tolist()) for row in decoded.tokens] == [([3, 1], [4, 2]), ([3, 1], [4, 7])]
    assert not any((row == 19).any() for row in decoded.tokens)


def test_a_text_that_stands_behind_another_has_no_space_of_its_own():
    tokenizer = remask.load("demo").tokenizer
    for text in (" has 12 pens.", "12", ".", " Rae"):
        assert tokenizer.decode(tokenizer.encode("Finn") + tokenizer.continuation(text)) == "Finn" + text
    assert tokenizer.encode("Finn") + tokenizer.continuation(" has 12 pens.") == tokenizer.encode("Finn has 12 pens.")
