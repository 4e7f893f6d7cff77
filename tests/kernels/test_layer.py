"""The layer's kernels against their twins in float64, and the twins against the layers of the networks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from remask.kernels import has_triton, layer
from remask.kernels.layer import (
    Normal,
    added,
    added_kernel,
    added_many,
    added_twin,
    linear,
    linear_kernel,
    linear_many,
    linear_twin,
    mix,
    mix_kernel,
    normed_kernel,
    normed_twin,
    turn_here,
    turn_kernel,
    turn_twin,
)
from remask.models.attention import rotary
from tests.kernels.ways import WAYS, on

SIZES = [(way, size) for way in ("kernel", "gpu") for size in ("few", "many")]


def linear_few(x, *more, **named):
    """Our own product of a norm that is whole."""
    return linear_kernel(Normal(x), *more, **named)


LINEAR = {("twin", "few"): linear_twin, **{(way, size): {"few": linear_few, "many": linear_many}[size] for way, size in SIZES}}
ADDED = {("twin", "few"): added_twin, **{(way, size): {"few": added_kernel, "many": added_many}[size] for way, size in SIZES}}
NORM = {"twin": normed_twin, "kernel": normed_kernel, "gpu": normed_kernel}
TURN = {"twin": turn_twin, "kernel": turn_kernel, "gpu": turn_kernel}


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def close(way, found, expected):
    """By the norm of the difference: rounding of the inputs' precision only. The interpreter cuts float32 to bfloat16 where a GPU rounds: twice the error."""
    error = (found.double().cpu() - expected).norm() / expected.norm()
    bound = 1e-5 if found.dtype == torch.float32 else 1e-2
    assert error < (2 * bound if way == "kernel" and found.dtype != torch.float32 else bound), float(error)


def whole(normal):
    """What a Normal stands for."""
    if normal.squares is None:
        return normal.x
    wide = normal.x.float() / (normal.squares.sum(1, keepdim=True) / normal.x.shape[1] + normal.eps).sqrt()
    return wide.to(normal.x.dtype)


def norm_of(x, weight, eps=0.1):
    """In float64."""
    x = x.double()
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * weight.double()


def unfinished(x, weight, pieces=3, eps=0.1):
    """A Normal whose rows are still to be divided, as a product leaves it, and the norm that it stands for, in float64; the first row is nothing."""
    x = torch.cat([torch.zeros_like(x[:1]), x[1:]])
    squares = torch.stack([part.float().square().sum(1) for part in x.chunk(pieces, 1)], 1)
    return Normal(x * weight, squares, eps), norm_of(x, weight, eps)


@pytest.mark.parametrize("size", ["few", "many"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("biased", "gated"), [(False, False), (True, False), (False, True), (True, True)])
def test_a_product_with_all_behind_it_is_that_of_float64(way, size, dtype, biased, gated):
    if (way, size) not in LINEAR:
        pytest.skip("one twin")
    rows, inner, columns = 5, 300, 70
    x, weight = random(rows, inner, dtype=dtype), random(columns, inner, seed=1, dtype=dtype) / 8
    bias = random(columns, seed=4, dtype=dtype) if biased else None
    found = LINEAR[way, size](on(way, x), on(way, weight), on(way, bias), gated=gated)
    expected = x.double() @ weight.double().T + (bias.double() if biased else 0)
    if gated:
        expected = torch.nn.functional.silu(expected[:, : columns // 2]) * expected[:, columns // 2 :]
    assert found.dtype == dtype
    close(way, found, expected)


@pytest.mark.parametrize("way", WAYS[1:])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [5, 40])
@pytest.mark.parametrize(("biased", "gated"), [(False, False), (True, True)])
def test_a_product_finishes_the_norm_that_it_is_given(way, dtype, rows, biased, gated):
    inner, columns = 300, 70
    normal, expected = unfinished(random(rows, inner, dtype=dtype), random(inner, seed=2, dtype=dtype))
    weight, bias = random(columns, inner, seed=1, dtype=dtype) / 8, random(columns, seed=4, dtype=dtype) if biased else None
    given = Normal(on(way, normal.x), on(way, normal.squares), normal.eps)
    found = linear(given, on(way, weight), on(way, bias), gated=gated)
    expected = expected @ weight.double().T + (bias.double() if biased else 0)
    if gated:
        expected = torch.nn.functional.silu(expected[:, : columns // 2]) * expected[:, columns // 2 :]
    close(way, found, expected)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_norm_is_that_of_float64(way, dtype):
    x, weight = random(5, 300, dtype=dtype), random(300, seed=2, dtype=dtype)
    close(way, NORM[way](on(way, x), on(way, weight), 0.1), norm_of(x, weight))


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


@pytest.mark.parametrize("way", WAYS[1:])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kept", ["placed", "everywhere", "nothing"])
@pytest.mark.parametrize(("key_heads", "width", "biased", "rows"), [(4, 16, False, 3), (2, 32, True, 3), (2, 64, True, 10), (2, 128, True, 3), (1, 256, False, 3)])
def test_queries_keys_and_values_in_one_launch_are_those_of_the_twin(way, dtype, kept, key_heads, width, biased, rows):
    heads, length, inner = 4, 9, 70
    place = torch.stack([torch.randperm(length, generator=torch.Generator().manual_seed(row))[:4] for row in range(rows)]) if kept == "placed" else None
    chosen = 4 if kept == "placed" else length
    cos, sin = (each[:, 0] for each in rotary(torch.arange(length)[None] if place is None else place, width, 1e4))
    normal, expected = unfinished(random(rows * chosen, inner, dtype=dtype), random(inner, seed=2, dtype=dtype))
    weight = random((heads + 2 * key_heads) * width, inner, seed=1, dtype=dtype) / 8
    bias = random(len(weight), seed=4, dtype=dtype) if biased else None
    stores = [None, None] if kept == "nothing" else [random(rows, key_heads, length, width, seed=seed, dtype=dtype) for seed in (5, 6)]
    given = Normal(on(way, normal.x), on(way, normal.squares), normal.eps)
    ours = [on(way, None if store is None else store.clone()) for store in stores]
    found = mix_kernel(given, *(on(way, each) for each in (weight, bias, cos, sin)), *ours, on(way, place), heads, shape=(rows, chosen))
    mixed = (expected @ weight.double().T + (bias.double() if biased else 0)).float().view(rows, chosen, -1)
    twin = turn_twin(mixed, cos, sin, *(None if store is None else store.float() for store in stores), place, heads)
    for each, other in zip(found, twin, strict=True):
        assert each.dtype == dtype
        assert each.shape == other.shape
        close(way, each, other.double())
    if kept == "placed":
        left = torch.ones(rows, length, dtype=torch.bool).scatter(1, place, False)
        for old, new in zip(stores, ours, strict=True):
            assert torch.equal(old.transpose(1, 2)[left], new.cpu().transpose(1, 2)[left]), "other positions stay"


@pytest.mark.parametrize("size", ["few", "many"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [5, 40])
@pytest.mark.parametrize("biased", [False, True])
def test_what_is_added_is_the_residual_and_the_product_and_its_norm_stands_behind_it(way, size, dtype, rows, biased):
    if (way, size) not in ADDED:
        pytest.skip("one twin")
    inner, columns = 300, 70
    x, weight, residual = random(rows, inner, dtype=dtype), random(columns, inner, seed=1, dtype=dtype) / 8, random(rows, columns, seed=2, dtype=dtype)
    norm, bias = random(columns, seed=3, dtype=dtype), random(columns, seed=4, dtype=dtype) if biased else None
    now, normal = ADDED[way, size](*(on(way, each) for each in (x, weight, bias)), on(way, residual.clone()), on(way, norm), 0.1)
    assert (normal.squares is None) == (way == "twin" or size == "many")
    expected = residual.double() + x.double() @ weight.double().T + (bias.double() if biased else 0)
    close(way, now, expected)
    close(way, whole(normal), norm_of(expected, norm))


@pytest.mark.parametrize("way", WAYS[1:])
@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize(("width", "left_out"), [(16, False), (16, True), (24, False), (24, True)])
def test_queries_keys_and_values_of_any_head_and_of_rows_behind_one_another(monkeypatch, way, finished, width, left_out):
    """A width that no kernel takes, and positions that are left out of the products: then the norm of those that are not is finished by the product alone."""
    if way == "kernel":
        monkeypatch.setattr("remask.kernels.layer.runs_kernels", lambda x: True)
        monkeypatch.setattr("remask.kernels.layer.streams", lambda x, most=0: True)
    heads, shape, slot = 2, (2, 3), torch.tensor([0, 1, 1, 2, 2, 3]) if left_out else None
    normal, expected = unfinished(random(4 if left_out else 6, 70), random(70, seed=2))
    if finished:
        normal = Normal(expected.float())
    weight = random(4 * width, 70, seed=1) / 8
    cos, sin = (each[:, 0] for each in rotary(torch.arange(3)[None], width, 1e4))
    given = Normal(on(way, normal.x), on(way, normal.squares), normal.eps)
    found = mix(given, on(way, weight), None, on(way, cos), on(way, sin), None, None, None, heads, shape=shape, slot=on(way, slot))
    mixed = (expected @ weight.double().T).float()
    twin = turn_twin((mixed if slot is None else mixed[slot]).view(*shape, -1), cos, sin, None, None, None, heads)
    for each, other in zip(found, twin, strict=True):
        close(way, each, other.double())


@pytest.mark.parametrize("way", WAYS[1:])
@pytest.mark.parametrize(("rows", "ours", "wide"), [(5, True, True), (32, True, True), (33, True, False), (64, True, False), (65, False, False)])
def test_few_rows_in_bfloat16_go_through_our_own_products(monkeypatch, way, rows, ours, wide):
    """The choice among our kernels and the library; the interpreter is given what a GPU would be. A norm that is not finished must be, whatever the number of rows."""
    if way == "kernel":
        monkeypatch.setattr("remask.kernels.layer.runs_kernels", lambda x: True)
    called = []
    for name in ("linear_kernel", "linear_many", "added_kernel", "added_many", "mix_kernel"):
        whole_function = getattr(layer, name)
        monkeypatch.setattr(layer, name, lambda *given, name=name, whole_function=whole_function, **named: called.append(name) or whole_function(*given, **named))
    x, weight, norm = (on(way, random(*shape, dtype=torch.bfloat16)) for shape in ((rows, 64), (96, 64), (96,)))
    cos, sin = (on(way, each[:, 0]) for each in rotary(torch.arange(rows)[None], 16, 1e4))
    residual = on(way, random(rows, 96, dtype=torch.bfloat16))
    linear(Normal(x), weight)
    linear(Normal(x), weight, gated=True)
    _, normal = added(x, weight, None, residual, norm, 1e-5)
    assert (normal.squares is not None) == ours
    linear(normal, on(way, random(32, 96, dtype=torch.bfloat16)))
    mix(Normal(x), weight, None, cos, sin, None, None, None, 2, shape=(1, rows))
    names = [f"linear_{'kernel' if wide else 'many'}", *(f"{name}_{'kernel' if ours else 'many'}" for name in ("linear", "added", "linear"))]
    assert called == [*names, "mix_kernel" if ours else "linear_many"]


@pytest.mark.skipif(not has_triton(), reason="needs Triton")
@pytest.mark.parametrize("way", WAYS[1:])
@pytest.mark.parametrize("rows", [20, 40])
@pytest.mark.parametrize("kind", ["linear", "gate", "mix", "add"])
def test_the_tiles_of_a_network_of_eight_billion_compute_the_same(monkeypatch, way, rows, kind):
    """Small products are cut finer, so that the tiles which large ones take would be met by no other test."""
    from remask.kernels import layer_triton

    monkeypatch.setattr(layer_triton, "room_of", lambda device: (1, 232_448))  # of one multiprocessor, which 64 columns are enough for
    tile, table = layer_triton.tile_of(kind, torch.empty(rows, 1, dtype=torch.bfloat16), 12_288), layer_triton.TILES if rows <= 32 else layer_triton.LARGER_TILES
    assert (tile["COLUMNS"], tile["INNER"], tile["num_warps"], tile["num_stages"], tile["TURNED"]) == table[kind]
    x, width, heads = random(rows, 300, dtype=torch.bfloat16), 128, 2
    weight = random(3 * heads * width, 300, seed=1, dtype=torch.bfloat16) / 8
    product = x.double() @ weight.double().T
    if kind == "mix":
        cos, sin = (each[:, 0] for each in rotary(torch.arange(rows)[None], width, 1e4))
        found = mix_kernel(Normal(on(way, x)), *(on(way, each) for each in (weight, None, cos, sin)), None, None, None, heads, shape=(1, rows))
        for each, other in zip(found, turn_twin(product.float().view(1, rows, -1), cos, sin, None, None, None, heads), strict=True):
            close(way, each, other.double())
    elif kind == "add":
        residual, norm = random(rows, len(weight), seed=2, dtype=torch.bfloat16), random(len(weight), seed=3, dtype=torch.bfloat16)
        now, normal = added_kernel(on(way, x), on(way, weight), None, on(way, residual.clone()), on(way, norm), 0.1)
        close(way, now, residual.double() + product)
        close(way, whole(normal), norm_of(residual.double() + product, norm))
    else:
        gate, up = product.chunk(2, 1)
        found = linear_kernel(Normal(on(way, x)), on(way, weight), gated=kind == "gate")
        close(way, found, torch.nn.functional.silu(gate) * up if kind == "gate" else product)


@pytest.mark.skipif(not has_triton(), reason="needs Triton")
@pytest.mark.parametrize(
    ("kind", "rows", "room", "stages"),
    [("add", 32, 232_448, 6), ("add", 32, 166_912, 5), ("add", 64, 101_376, 4), ("gate", 20, 232_448, 3), ("gate", 64, 49_152, 3), ("mix", 1, 65_536, 3), ("add", 64, 16_384, 1)],
)
def test_a_card_with_less_shared_memory_keeps_fewer_stages_in_flight(monkeypatch, kind, rows, room, stages):
    from remask.kernels import layer_triton

    monkeypatch.setattr(layer_triton, "room_of", lambda device: (132, room))
    tile = layer_triton.tile_of(kind, torch.empty(rows, 1, dtype=torch.bfloat16), 12_288)
    assert tile["num_stages"] == stages


@pytest.mark.skipif(not has_triton(), reason="needs Triton")
def test_products_of_few_rows_fit_other_cards(tmp_path):
    """What each kernel takes, compiled for a card that is not here."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"} | {"TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-m", "tests.kernels.fits"], env=environment, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == 7
    for each in found:
        assert 0 < each["bytes"] <= each["of"], each
