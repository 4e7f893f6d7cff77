"""lm-evaluation-harness on local task files and the shipped checkpoint: prompts byte for byte, its scores, our decoders."""

import json
import os
import random
from pathlib import Path

import pytest

import remask
from remask import RemaskError
from remask.evaluation import tasks
from remask.trace.file import read
from tests.cli.test_commands import remask_command

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed (the extra `harness`)")

from lm_eval.api.instance import Instance

from remask.evaluation import lm_eval_model
from remask.evaluation.lm_eval_model import RemaskLM, Settings, before_any, run_task


@pytest.fixture(scope="module")
def demo():
    return remask.load("demo", dtype="float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The task files, beside the word problems that they read."""
    made = tmp_path_factory.mktemp("tasks")
    items = tasks.get("wordmath").sample(3, seed=3, split="test", operations=(2, 2))
    lines = []
    for item in items:
        number = item.answer.rpartition("#### ")[2]
        wrong = item.answer.replace(number, f"{(int(number) + 1) % 1000:03}")
        lines.append({"problem": item.prompt, "answer": number, "right": f" {item.answer}", "wrong": f" {wrong}"})
    (made / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for file in (Path(__file__).parent / "tasks").glob("*.yaml"):
        (made / file.name).write_text(file.read_text().replace("DATA", str(made / "data.jsonl")))
    return made


def request(kind, *arguments):
    return Instance(request_type=kind, doc={}, arguments=arguments, idx=0)


def test_generation_scores_what_the_task_checks_with_prompts_byte_for_byte(demo, folder, monkeypatch):
    seen = []
    generate = lm_eval_model.generate
    monkeypatch.setattr(lm_eval_model, "generate", lambda model, prompts, **more: seen.extend(prompts) or generate(model, prompts, **more))
    found = run_task(demo, "remask_words", settings=Settings({"decoder": remask.Threshold(0.9)}), folder=folder)
    items = [json.loads(line) for line in (folder / "data.jsonl").read_text().splitlines()]
    made = remask.generate(demo, [item["problem"] for item in items], max_new_tokens=72, decoder=remask.Threshold(0.9))
    right = [completion.text.endswith(item["answer"]) for completion, item in zip(made, items, strict=True)]
    assert found["results"]["remask_words"]["exact_match,last"] == sum(right) / len(right) > 0.5
    assert sorted(seen) == sorted(item["problem"] for item in items)
    assert found["costs"]["forwards_per_row"] == sum(completion.stats.forwards for completion in made) / len(made)


def test_the_command_runs_a_task_and_names_one_that_does_not_exist(folder, tmp_path):
    arguments = ["eval", "--harness", "remask_words", "--tasks", str(folder), "--decoder", "threshold:tau=0.9", "--limit", "1", "--batch", "1"]
    arguments += ["--trace", str(tmp_path / "trace.jsonl")]
    done = remask_command(*arguments)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout[done.stdout.index("{\n") :])
    assert found["n-samples"]["remask_words"]["effective"] == 1
    assert found["costs"]["generated_texts"] == 1
    assert found["model"] == "demo"
    trace = read(tmp_path / "trace.jsonl")
    assert trace.openings["0"].settings == {"model": "demo", "computed": "plain", "decoder": "threshold", "window": "whole", "reuse": "fresh", "shapers": ""}
    assert trace.events["0"][-1].forwards == found["costs"]["forwards_per_row"]


def test_recorded_passes_score_the_same_and_single_canvases_are_not_recorded(demo, folder):
    captured, settings = remask.Captured(demo), Settings({"decoder": remask.Threshold(0.9)}, samples=4)
    for task in ("remask_choice", "remask_words"):
        expected, found = (run_task(model, task, settings=settings, folder=folder, limit=2) for model in (demo, captured))
        assert found == expected
        assert len(captured.sessions) == (task == "remask_words")


def test_likelihoods_choose_the_right_answer(demo, folder):
    found = run_task(demo, "remask_choice", settings=Settings(samples=4), limit=2, folder=folder)
    assert found["results"]["remask_choice"]["acc,none"] == 1.0


def test_a_likelihood_is_the_bound_and_says_whether_greedy_decoding_agrees(demo, folder):
    item = json.loads((folder / "data.jsonl").read_text().splitlines()[0])
    judge = RemaskLM(demo, Settings({"decoder": remask.Threshold(0.9)}, samples=4, seed=2))
    (right, agrees), (wrong, _), (nothing, _) = judge.loglikelihood([request("loglikelihood", item["problem"], text) for text in (item["right"], item["wrong"], "")])
    context, answer = judge.divided(item["problem"], item["right"])
    assert demo.tokenizer.decode([*context, *answer]) == item["problem"] + item["right"]
    assert right == remask.log_likelihood(demo, context, answer, samples=4, seed=2).bound
    assert right > wrong
    assert nothing == 0.0
    (row,) = remask.decode(demo, [context], max_new_tokens=len(answer), decoder=remask.Threshold(0.9)).tokens
    assert agrees == (row.tolist() == [*context, *answer])


def test_rolling_likelihoods_cover_texts_longer_than_the_model(checkpoint):
    model = remask.load(checkpoint)
    judge = RemaskLM(model, Settings(samples=4))
    text = "".join(random.Random(1).choices("0123456789", k=200))
    (whole,) = judge.loglikelihood_rolling([request("loglikelihood_rolling", text)])
    assert whole == sum(remask.log_likelihood(model, [], text[start : start + 162], samples=4).bound for start in (0, 162))


def test_blanks_between_context_and_continuation_belong_to_the_continuation(demo):
    judge = RemaskLM(demo)
    assert judge.divided("Ann has ", "3") == judge.divided("Ann has", " 3")
    context, answer = judge.divided("Ann has ", "3")
    assert demo.tokenizer.decode([*context, *answer]) == "Ann has 3"
    assert answer


def test_texts_end_before_the_first_stop_and_rooms_end_with_the_model(demo):
    assert before_any("a b c", ["c", "b"]) == "a "
    assert before_any("a b c", "b") == "a "
    assert before_any("a b c", None) == before_any("a b c", ["", "x"]) == "a b c"
    judge = RemaskLM(demo)
    assert judge.room("Ann", {"max_gen_toks": 7}) == 7
    assert judge.room("Ann", {"max_gen_toks": 5000}) == demo.max_length - len(demo.tokenizer.encode("Ann"))
    with pytest.raises(RemaskError, match="room"):
        judge.room("Ann " * 600, {})


def test_a_request_does_not_notice_its_neighbours(checkpoint):
    model = remask.load(checkpoint)
    asked = [("12", {"max_gen_toks": 5, "temperature": 1.0}), ("345", {"max_gen_toks": 5, "temperature": 1.0}), ("6", {"max_gen_toks": 9})]
    together = RemaskLM(model, Settings(batch=2)).generate_until([request("generate_until", *one) for one in asked])
    alone = RemaskLM(model, Settings(batch=1)).generate_until([request("generate_until", *one) for one in asked])
    assert together == alone


def test_an_unknown_task_is_named(demo, folder):
    with pytest.raises(RemaskError, match="no_such_task"):
        run_task(demo, "no_such_task", settings=Settings(), folder=folder)


def test_a_task_whose_data_are_not_here_is_one_line(checkpoint, tmp_path):
    (tmp_path / "far.yaml").write_text(
        'task: far\ndataset_path: remask-tests/is-nowhere\noutput_type: generate_until\ntest_split: test\ndoc_to_text: "{{a}}"\ndoc_to_target: "{{b}}"\n'
    )
    done = remask_command("eval", "--harness", "far", "--tasks", str(tmp_path), "--limit", "1", "--model", str(checkpoint))
    assert done.returncode == 2, done.stderr
    assert "the data of task 'far' are not on this machine" in done.stderr
    assert "run it once with a network" in done.stderr
