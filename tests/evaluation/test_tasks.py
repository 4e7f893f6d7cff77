"""Tasks: prompts that can be solved, answers that check, splits that follow from the problem."""

import random
import re
from functools import reduce

import numpy as np
import pytest

from remask import RemaskError
from remask.evaluation import tasks
from remask.evaluation.tasks import grids, split_of, wordmath
from remask.evaluation.tasks.base import Item
from remask.evaluation.tasks.files import data_folder
from remask.evaluation.tasks.grid_singles import singles_solve
from remask.evaluation.tasks.grid_symmetry import invariants
from remask.evaluation.tasks.sudoku import canonical_4x4
from remask.evaluation.tasks.wordmath_phrases import HELD_OUT, ITEM_SETS, NAMES, PHRASES
from remask.evaluation.tasks.wordmath_reading import in_order, unread


def has_data() -> bool:
    try:
        return data_folder().is_dir()
    except RemaskError:
        return False


needs_data = pytest.mark.skipif(not has_data(), reason="no data folder beside this checkout and no REMASK_DATA")
MADE = ["wordmath", "sudoku", "sudoku4"]
READ = ["gsm_aug", "fiction", "fiction_infill"]


@pytest.mark.parametrize("name", [*MADE, *(pytest.param(name, marks=needs_data) for name in READ)])
def test_a_sample_depends_on_its_seed_alone_and_its_own_answers_check(name):
    items = tasks.get(name).sample(5, seed=3)
    assert items == tasks.get(name).sample(5, seed=3) != tasks.get(name).sample(5, seed=4)
    assert all(item.check(item.answer) for item in items)
    assert not any(item.check("") or item.check("nothing of the kind") for item in items)


@pytest.mark.parametrize("name", ["wordmath", "sudoku"])
def test_splits_share_no_problem(name):
    seen = {split: {item.prompt for item in tasks.get(name).sample(40, split=split)} for split in ("train", "valid", "test")}
    assert not seen["train"] & seen["valid"]
    assert not seen["train"] & seen["test"]
    assert not seen["valid"] & seen["test"]


@pytest.mark.parametrize(
    ("name", "options"),
    [("wordmath", {"n": -1}), ("wordmath", {"n": 1, "split": "dev"}), ("wordmath", {"n": 1, "operations": (3, 2)}), ("wordmath", {"n": 1, "operations": (0, 2)}),
     ("wordmath", {"n": 1, "distractors": (-1, 2)}), ("wordmath", {"n": 1, "wording": "old"}), ("sudoku", {"n": 1, "stratum": "easy"}), ("sudoku4", {"n": 1, "stratum": "harder"})],
)  # fmt: skip
def test_a_wrong_request_is_one_clear_error(name, options):
    value = str(next(v for k, v in reversed(options.items())))
    with pytest.raises(RemaskError, match=re.escape(value)):
        tasks.get(name).sample(**options)


def test_options_behind_a_colon_are_those_of_sample():
    narrow = tasks.get("wordmath:operations=3+3,distractors=0+0,max_new_tokens=99")
    assert (narrow.max_new_tokens, narrow.model) == (99, "demo")
    assert narrow.sample(5, seed=4, split="valid") == tasks.get("wordmath").sample(5, seed=4, split="valid", operations=(3, 3), distractors=(0, 0))
    assert tasks.get("wordmath:operations=3+3").max_new_tokens == tasks.get("wordmath").max_new_tokens


@pytest.mark.parametrize(
    ("name", "said"),
    [("wordmath:ops=2", "'ops'.*operations, distractors, wording, max_new_tokens"), ("sudoku:seed=3", "'seed'.*stratum"), ("wordmath:operations=2+x", "'x'.*number")],
)
def test_an_option_that_a_task_has_not_names_those_it_has(name, said):
    with pytest.raises(RemaskError, match=said):
        tasks.get(name)


def test_an_unknown_task_names_the_known_ones():
    with pytest.raises(RemaskError, match=r"'sudoku9'.*sudoku4"):
        tasks.get("sudoku9")


def test_a_missing_data_folder_names_the_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("REMASK_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(RemaskError, match="REMASK_DATA"):
        tasks.get("fiction").sample(1)


def plain(text: str) -> str:
    """Numbers without leading zeros."""
    return re.sub(r"\b0+(?=\d)", "", text)


def equations(item: Item) -> tuple[dict[str, str], list[tuple[str, str, int]], str]:
    restated, computed = item.answer.split(" So ")
    definitions = dict(plain(part).split(" = ") for part in restated.rstrip(".").split(". "))
    work, _, result = computed.partition(" #### ")
    steps = [plain(part).split(" = ") for part in work.rstrip(".").split(". ")]
    return definitions, [(name, expression, int(value)) for name, expression, value in steps], result


def test_every_worked_answer_is_right_and_restates_only_what_is_needed():
    for item in tasks.get("wordmath").sample(200, seed=1, operations=(1, 10)):
        definitions, steps, result = equations(item)
        values = {name: int(right) for name, right in definitions.items() if right.isdigit()}
        for name, expression, value in steps:
            assert eval(definitions[name], {}, dict(values)) == eval(expression) == value
            assert 0 <= value <= 999
            values[name] = value
        asked = next(iter(definitions))
        assert values[asked] == int(result)
        assert len(steps) == int(item.stratum)
        used = {name for right in definitions.values() for name in right.split() if name in definitions}
        assert used | {asked} == set(definitions)
        assert item.prompt.rpartition(". ")[2].count(asked) == 1 or asked in item.prompt.split(". ")[-1]


def test_statements_stand_in_no_order_and_distractors_are_about_used_quantities_half_of_the_time():
    rng = random.Random(0)
    first, about_used, distractors = 0, 0, 0
    for _ in range(2000):
        problem = wordmath.sample_problem(rng, 3, 1)
        extra = problem.quantities[-1]
        distractors += 1
        about_used += any(source < problem.needed for source in extra.sources)
        item = wordmath.write(problem, random.Random(rng.random()))
        first += item.prompt.split(".")[0].count(item.answer.split(" = ")[0])
    assert 0.5 < about_used / distractors < 0.95
    assert first / 2000 < 0.6


OPERATIONS = {
    **dict.fromkeys(("more", "plus", "Add", "added", "together"), lambda a, b: a + b),
    **dict.fromkeys(("fewer", "less", "minus", "Take", "beyond"), lambda a, b: a - b),
    **dict.fromkeys(("times", "Multiply", "every"), lambda a, b: a * b),
}


def scripts(prompt: str) -> dict[str, int]:
    """Ways to combine the numbers in the order of the prompt, without looking at who is meant."""
    numbers = [int(number) for number in re.findall(r"\d+", prompt)]
    by_word = [OPERATIONS[word] for word in re.findall(r"[A-Za-z]+", prompt) if word in OPERATIONS]
    found = {"sum": sum(numbers), "first less the others": numbers[0] - sum(numbers[1:]), "first": numbers[0], "last": numbers[-1], "largest": max(numbers)}
    found["by the words, each used once"] = reduce(lambda made, pair: pair[1](made, pair[0]), zip(numbers[1:], by_word, strict=False), numbers[0])
    value, number = None, None
    for statement in prompt.split(". "):
        given = re.search(r"\d+", statement)
        word = next((word for word in re.findall(r"[A-Za-z]+", statement) if word in OPERATIONS), None)
        if given:
            number = int(given.group())
            value = number if value is None or word is None else OPERATIONS[word](value, number)
    found["statement by statement"] = value or 0
    constants = [int(n) for statement in prompt.split(". ") for n in re.findall(r"\d+", statement) if not set(statement.split()) & set(OPERATIONS)]
    found["sum of what is simply had"] = sum(constants)
    found["difference of what is simply had"] = abs(constants[0] - sum(constants[1:])) if constants else 0
    return found


def test_a_script_that_combines_the_numbers_in_order_fails():
    items = tasks.get("wordmath").sample(1000, seed=2)
    for name in scripts(items[0].prompt):
        assert sum(item.check(str(scripts(item.prompt)[name])) for item in items) < 50, name


def test_the_same_script_solves_what_needs_no_retrieval():
    """One operation, no distractors: the measure above is one of the task, not of a script that is always wrong."""
    problems = [wordmath.sample_problem(random.Random(seed), 1, 0) for seed in range(200)]
    read = [scripts(wordmath.write(problem, random.Random(seed)).prompt)["sum"] == problem.quantities[0].value for seed, problem in enumerate(problems)]
    assert 0.2 < sum(read) / 200 < 0.9


def test_turning_the_statements_changes_nothing_but_their_order():
    lucky = ["Ann has 5 pens.", "Bo has 3 more pens than Ann."]
    assert in_order(lucky) == 8
    assert unread(lucky, 7) == lucky
    assert unread(["Ann has 9 pens.", "Bo has 3 fewer pens than Ann."], 6) == ["Bo has 3 fewer pens than Ann.", "Ann has 9 pens."]
    assert unread(lucky, 8) == lucky, "every turn is lucky"


def test_the_vocabulary_is_as_large_as_promised_and_held_out_words_are_new():
    assert len(set(NAMES)) == 40
    assert len(ITEM_SETS) == 12
    assert all(len(set(phrases)) >= 4 for phrases in PHRASES.values())
    assert not {phrase for phrases in HELD_OUT.values() for phrase in phrases} & {phrase for phrases in PHRASES.values() for phrase in phrases}
    item = tasks.get("wordmath").sample(1, wording="new")[0]
    assert item.check(item.answer)


@pytest.mark.parametrize("text", ["So 3 + 4 = 7. #### 7", "#### 7\n", "7", "it is 7."])
def test_the_last_number_is_the_answer(text):
    assert wordmath.answers("7", text)
    assert not wordmath.answers("17", text)
    assert not wordmath.answers("7", text + " or 8")


@pytest.mark.parametrize("box", [2, 3])
def test_singles_solve_every_puzzle_of_the_stratum(box):
    items = tasks.get("sudoku" if box == 3 else "sudoku4").sample(20)
    puzzles = np.array([[int(digit) for digit in item.prompt] for item in items])
    solved = singles_solve(puzzles, box).tolist()
    assert ["".join(map(str, row)) for row in solved] == [item.answer for item in items]
    assert all(len(grids.solve(puzzle, box)) == 1 for puzzle in puzzles.tolist())


@pytest.mark.parametrize("stratum", ["harder", "sparse"])
def test_harder_puzzles_have_one_solution_that_singles_do_not_find(stratum):
    items = tasks.get("sudoku").sample(3, stratum=stratum)
    puzzles = np.array([[int(digit) for digit in item.prompt] for item in items])
    assert all(len(grids.solve(puzzle, 3)) == 1 for puzzle in puzzles.tolist())
    assert (singles_solve(puzzles, 3) == 0).any(1).all()
    if stratum == "sparse":
        assert ((puzzles > 0).sum(1) <= 25).all()


def test_a_grid_is_checked_for_validity_and_for_its_clues():
    item = tasks.get("sudoku").sample(1)[0]
    clue = next(digit for digit in item.prompt if digit != "0")
    other = "1" if clue != "1" else "2"
    renamed = item.answer.translate(str.maketrans(clue + other, other + clue))
    assert not item.check(renamed)
    assert not item.check(item.answer[:-1])
    assert not item.check(item.answer[::-1] if item.answer[::-1] != item.answer else "")
    assert item.check("\n".join(item.answer[9 * r : 9 * r + 9] for r in range(9)))


def symmetric(grid: grids.Grid, box: int, rng: random.Random) -> grids.Grid:
    side = box * box

    def lines() -> list[int]:
        return [box * band + line for band in rng.sample(range(box), box) for line in rng.sample(range(box), box)]

    rows, columns, labels = lines(), lines(), [0, *rng.sample(range(1, side + 1), side)]
    flip = rng.random() < 0.5
    return tuple(labels[grid[side * c + r] if flip else grid[side * r + c]] for r in rows for c in columns)


def test_symmetric_grids_have_one_name_and_others_have_others():
    rng = random.Random(0)
    solutions = [grids.random_solution(rng, 3) for _ in range(20)]
    moved = [symmetric(solution, 3, rng) for solution in solutions]
    assert all(grids.is_solution(grid, 3) for grid in moved)
    assert invariants(moved, 3) == invariants(solutions, 3)
    assert len(set(invariants(solutions, 3))) == 20


def test_symmetric_4x4_puzzles_have_one_canonical_form():
    rng = random.Random(1)
    for item in tasks.get("sudoku4").sample(10):
        puzzle = tuple(int(digit) for digit in item.prompt)
        assert canonical_4x4(symmetric(puzzle, 2, rng)) == canonical_4x4(puzzle)
        assert split_of(canonical_4x4(puzzle)) == "test"


def test_puzzles_without_and_with_many_solutions_are_told_apart():
    assert grids.solve([1, 1] + [0] * 14, 2) == []
    assert len(grids.solve([0] * 16, 2, limit=300)) == 288


@needs_data
def test_the_held_out_source_problems_are_never_trained_on():
    from remask.evaluation.tasks import gsm_aug

    assert len(gsm_aug.held_out(gsm_aug.training_file())) == 200
    trained = {prompt for prompt, _ in gsm_aug.training_pairs()}
    valid = tasks.get("gsm_aug").sample(300, split="valid")
    assert not trained & {item.prompt for item in valid}
    assert not {item.prompt for item in tasks.get("gsm_aug").sample(2000, templates="new")} & trained


def test_sums_have_the_runs_of_their_stratum_and_stay_in_their_split():
    from remask.evaluation.tasks.addition import STRATA, canonical, longest_run
    from remask.evaluation.tasks.base import split_of

    for stratum, (low, high) in STRATA.items():
        for item in tasks.get("addition").sample(20, split="valid", stratum=stratum):
            a, b = item.prompt.rstrip("=").split("+")
            assert low <= longest_run(a, b) <= high
            assert split_of(canonical(b, a)) == "valid"
            assert int(item.answer) == int(a) + int(b)
            assert item.check(" ".join(item.answer))
            assert not item.check(item.answer[:-1] + str((int(item.answer[-1]) + 1) % 10))
    assert [item.stratum for item in tasks.get("addition").sample(4)] == ["short", "medium", "long", "short"]
    with pytest.raises(RemaskError, match="short, medium, long"):
        tasks.get("addition").sample(1, stratum="huge")
