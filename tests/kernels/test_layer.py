"""The layer's kernels against their twins in float64, and the twins against the layers of the networks."""

import pytest
import torch

from remask.kernels.layer import (
    added,
    linear_kernel,
    linear_many,
    linear_twin,
    normed_kernel,
    normed_twin,
    parts_kernel,
    parts_twin,
    settle_kernel,
    settle_twin,
    settled,
    turn_here,
    turn_kernel,
    turn_twin,
)
from remask.models.attention import rotary
from tests.kernels.ways import WAYS, on

LINEAR = {("twin", "few"): linear_twin, **{(way, size): {"few": linear_kernel, "many": linear_many}[size] for way in ("kernel", "gpu") for size in ("few", "many")}}
PARTS, SETTLED = ({"twin": twin, "kernel": kernel, "gpu": kernel} for twin, kernel in ((parts_twin, parts_kernel), (settle_twin, settle_kernel)))
NORM = {"twin": normed_twin, "kernel": normed_kernel, "gpu": normed_kernel}
TURN = {"twin": turn_twin, "kernel": turn_kernel, "gpu": turn_kernel}


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def close(way, found, expected):
    """By the norm of the difference: rounding of the inputs' precision only. The interpreter cuts float32 to bfloat16 where a GPU rounds: twice the error."""
    error = (found.double().cpu() - expected).norm() / expected.norm()
    bound = 1e-5 if found.dtype == torch.float32 else 1e-2
    assert error < (2 * bound if way == "kernel" and found.dtype != torch.float32 else bound), float(error)


@pytest.mark.parametrize("size", ["few", "many"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("biased", "residual", "gated"), [(False, False, False), (True, False, False), (False, True, False), (True, True, False), (False, False, True), (True, True, True)]
)
def test_a_product_with_all_behind_it_is_that_of_float64(way, size, dtype, biased, residual, gated):
    if (way, size) not in LINEAR:
        pytest.skip("one twin")
    rows, inner, columns = 5, 300, 70
    x, weight = random(rows, inner, dtype=dtype), random(columns, inner, seed=1, dtype=dtype) / 8
    bias = random(columns, seed=4, dtype=dtype) if biased else None
    before = random(rows, columns // 2 if gated else columns, seed=3, dtype=dtype) if residual else None
    found = LINEAR[way, size](on(way, x), on(way, weight), on(way, bias), residual=on(way, before), gated=gated)
    expected = x.double() @ weight.double().T + (bias.double() if biased else 0)
    if gated:
        expected = torch.nn.functional.silu(expected[:, : columns // 2]) * expected[:, columns // 2 :]
    expected = expected + (before.double() if residual else 0)
    assert found.dtype == dtype
    close(way, found, expected)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_norm_is_that_of_float64(way, dtype):
    x, weight = random(5, 300, dtype=dtype), random(300, seed=2, dtype=dtype)
    close(way, NORM[way](on(way, x), on(way, weight), 1e-5), x.double() / (x.double().square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight.double())


@pytest.mark.parametrize("way", WAYS)
def test_without_stores_the_keys_and_values_are_those_of_the_positions(way):
    mixed, angles = random(2, 5, (4 + 2 * 2) * 16), [each[:, 0] for each in rotary(torch.arange(5)[None], 16, 1e4)]
    stores = [torch.zeros(2, 2, 5, 16) for _ in range(2)]
    expected = turn_twin(mixed, *angles, *stores, None, 4)
    found = TURN[way](on(way, mixed), *(on(way, each) for each in angles), None, None, None, 4)
    here = found if way == "twin" else turn_here(on(way, mixed.clone()), *(on(way, each) for each in angles), None, None, None, 4)
    for each, view, other in zip(found, here, expected, strict=True):
        torch.testing.assert_close(each.cpu(), other, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(view.cpu(), other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("placed", [True, False])
@pytest.mark.parametrize("key_heads", [4, 2])
def test_queries_and_keys_are_turned_and_stored_where_they_belong(way, placed, key_heads):
    heads, width, rows, length = 4, 16, 3, 9
    place = torch.tensor([[0, 3, 8, 8], [1, 2, 4, 5], [7, 7, 7, 7]]) if placed else None
    chosen = 4 if placed else length
    angles = [each[:, 0] for each in rotary(place if placed else torch.arange(length)[None], width, 1e4)]
    mixed = random(rows, chosen, (heads + 2 * key_heads) * width)
    if placed:  # a repeated place holds the same position
        mixed[0, 3], mixed[2, 1:] = mixed[0, 2], mixed[2, :1]
    stores = [random(rows, key_heads, length, width, seed=seed) for seed in (1, 2)]
    kept = [on(way, store.clone()) for store in stores]
    query, keys, values = TURN[way](on(way, mixed), *(on(way, each) for each in angles), *kept, on(way, place), heads)
    assert keys is kept[0]
    assert values is kept[1]
    cos, sin = (each.double().expand(rows, -1, -1) for each in angles)
    for row in range(rows):
        for slot in range(chosen):
            parts = mixed[row, slot].double().view(-1, width)
            turned = parts * cos[row, slot] + torch.cat([-parts[:, width // 2 :], parts[:, : width // 2]], -1) * sin[row, slot]
            at = int(place[row, slot]) if placed else slot
            torch.testing.assert_close(query[row, :, slot].cpu().double(), turned[:heads], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(keys[row, :, at].cpu().double(), turned[heads : heads + key_heads], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(values[row, :, at].cpu().double(), parts[heads + key_heads :], rtol=0, atol=0)
    if placed:
        left = torch.ones(rows, length, dtype=torch.bool).scatter(1, place, False)
        for old, new in zip(stores, kept, strict=True):
            assert torch.equal(old.transpose(1, 2)[left], new.cpu().transpose(1, 2)[left]), "other positions stay"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("biased", [False, True])
def test_a_product_in_parts_is_settled_by_the_norm_behind_it(way, dtype, parts, biased):
    rows, inner, columns = 5, 300, 70  # 300 is no multiple of parts and tiles
    x, weight, residual = random(rows, inner, dtype=dtype), random(columns, inner, seed=1, dtype=dtype) / 8, random(rows, columns, seed=2, dtype=dtype)
    norm, bias = random(columns, seed=3, dtype=dtype), random(columns, seed=4, dtype=dtype) if biased else None
    made = PARTS[way](on(way, x), on(way, weight), parts)
    assert made.shape == (parts, rows, columns)
    settled, normal = SETTLED[way](on(way, residual), made, on(way, bias), on(way, norm), 1e-5)
    expected = residual.double() + x.double() @ weight.double().T + (bias.double() if biased else 0)
    close(way, settled, expected)
    close(way, normal, expected / (expected.square().mean(-1, keepdim=True) + 1e-5).sqrt() * norm.double())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("rows", "columns", "inner"), [(5, 70, 70), (40, 70, 70), (40, 70, 150), (70, 70, 70), (5, 150, 70)])
@pytest.mark.parametrize("biased", [False, True])
def test_what_is_added_is_the_residual_and_the_product_however_it_is_cut(monkeypatch, way, rows, columns, inner, biased):
    """Every branch of the choice among our kernels and the library, in bfloat16; the interpreter is given what a GPU would be."""
    if way == "kernel":
        monkeypatch.setattr("remask.kernels.layer.runs_kernels", lambda x: True)
    x, weight = random(rows, inner, dtype=torch.bfloat16), random(columns, inner, seed=1, dtype=torch.bfloat16) / 8
    residual, bias, norm = (random(*shape, seed=seed, dtype=torch.bfloat16) for seed, shape in enumerate(((rows, columns), (columns,), (columns,)), 2))
    expected = residual.double() + x.double() @ weight.double().T + (bias.double() if biased else 0)
    sum_ = added(on(way, x), on(way, weight), on(way, bias) if biased else None, on(way, residual.clone()))
    parts = 1 if sum_.parts is None else len(sum_.parts)
    assert parts == (1 if way == "twin" or rows > 64 or columns > inner else 4 if rows > 32 and inner > columns else 2)
    settled_, normal = settled(sum_, on(way, norm), 1e-5)
    close(way, settled_, expected)
    close(way, normal, expected / (expected.square().mean(-1, keepdim=True) + 1e-5).sqrt() * norm.double())
