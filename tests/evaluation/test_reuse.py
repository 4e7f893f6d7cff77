"""Rules side by side: each with the run without reuse, and one inside a cache with the cache alone."""

import pytest

import remask
from remask.evaluation import tasks
from remask.evaluation.reuse import compare


def test_a_rule_inside_a_cache_is_compared_with_both(checkpoint):
    specs = ["fresh", "dual", "dual:inner=(surelock:eps=10,gate=100)"]
    rules = {spec: {"reuse": remask.parse_reuse(spec), "early_stop": False} for spec in specs}
    items = tasks.get("sudoku4").sample(3, seed=0, split="test")
    first, found = compare(remask.load(checkpoint), items, rules, max_new_tokens=16, batch=2, against={specs[2]: "dual"})
    assert [first[spec]["items"] for spec in specs] == [2, 2, 2], "what is known after a batch"
    assert [found[spec]["items"] for spec in specs] == [3, 3, 3]
    inner = found[specs[2]]
    assert inner["against"]["rule"] == "dual"
    assert inner["against"]["flops_ratio"] == pytest.approx(inner["flops_ratio"] / found["dual"]["flops_ratio"])
    assert inner["flops_ratio"] < found["dual"]["flops_ratio"] < 1
    assert found["fresh"]["flops_ratio"] == 1
    assert found["fresh"]["flip_rate"] == 0
    assert "against" not in found["dual"]
