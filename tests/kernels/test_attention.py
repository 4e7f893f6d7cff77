"""The attention kernel and its twin against float64."""

from types import SimpleNamespace

import pytest
import torch

from remask.kernels.attention import attend, attend_kernel, attend_rows, reads_rows
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


def test_rows_behind_one_another_do_not_see_each_other():
    """As one after the other, with two heads a key, an empty row and one of a single position."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(17, heads, 8, dtype=torch.float64, generator=generator) for heads in (4, 2, 2))
    found = attend_rows(query, key, value, torch.tensor([0, 9, 9, 10, 17], dtype=torch.int32), 9)
    assert found.shape == (17, 32)
    for row in (slice(0, 9), slice(9, 10), slice(10, 17)):
        alone = attend(*(part[row].transpose(0, 1)[None] for part in (query, key, value)), None)[0]
        torch.testing.assert_close(found[row], alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("dtype", "key_heads", "width", "capability", "taken"),
    [(torch.bfloat16, 4, 128, (9, 0), True), (torch.float16, 4, 8, (8, 0), True), (torch.float32, 4, 128, (9, 0), False), (torch.bfloat16, 2, 128, (9, 0), False),
     (torch.bfloat16, 4, 20, (9, 0), False), (torch.bfloat16, 4, 264, (9, 0), False), (torch.float16, 4, 128, (7, 5), False)],
)  # fmt: skip
def test_rows_are_given_to_the_library_where_its_kernel_takes_them(monkeypatch, dtype, key_heads, width, capability, taken):
    """Elsewhere they go in padded copies, as before there was such a kernel: on an older card, say."""
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: capability)
    assert reads_rows(SimpleNamespace(is_cuda=True, device="cuda", dtype=dtype), 4, key_heads, width) == taken
    assert reads_rows(torch.zeros(1, dtype=dtype), 4, key_heads, width)
