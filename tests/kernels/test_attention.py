"""The attention kernel and its twin against float64."""

import pytest
import torch

from remask.kernels.attention import attend, attend_kernel
from tests.kernels.test_layer import close, random
from tests.kernels.ways import WAYS, on

ATTEND = {"twin": lambda *each, parts: attend(*each), "kernel": attend_kernel, "gpu": attend_kernel}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("rows", "heads", "key_heads", "chosen", "length"), [(2, 4, 4, 5, 70), (3, 4, 2, 70, 130), (1, 2, 1, 1, 64)])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(("by", "parts"), [("head", 1), ("position", 1), ("position", 4)])
def test_few_queries_over_all_keys(way, dtype, rows, heads, key_heads, chosen, length, padded, by, parts):
    """by: what lies together in memory, the queries of a head or those of a position."""
    query = random(rows, heads, chosen, 16, dtype=dtype)
    query = query if by == "head" else query.transpose(1, 2).contiguous().transpose(1, 2)
    key, value = (random(rows, key_heads, length, 16, seed=seed, dtype=dtype) for seed in (1, 2))
    seen = torch.arange(length).expand(rows, -1) >= torch.arange(rows)[:, None] * 17 + length // 2 if padded else None  # a whole block of keys is not read
    found = ATTEND[way](*(on(way, each) for each in (query, key, value, seen)), parts=parts)
    wide = [each.double() for each in (query, key.repeat_interleave(heads // key_heads, 1), value.repeat_interleave(heads // key_heads, 1))]
    scores = wide[0] @ wide[1].transpose(2, 3) / 4
    scores = scores if seen is None else scores.masked_fill(~seen[:, None, None], float("-inf"))
    assert found.dtype == dtype
    close(way, found, (scores.softmax(-1) @ wide[2]).transpose(1, 2).flatten(2))
