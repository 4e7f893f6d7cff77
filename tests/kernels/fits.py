"""The shared memory that the products of few rows take on other cards, by compiling them for these without one; a process of its own, since the tests' interprets kernels.

python -m tests.kernels.fits          # a line of JSON a kernel
"""

import json

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from remask.kernels import layer_triton

INNER, COLUMNS, PIECES, WIDTH = 4096, 12_288, 128, 128
FINISHED = {"PIECES": PIECES, "WIDTH_OF_PIECES": PIECES}
KERNELS = {
    "gate": (layer_triton._linear, {"inner": INNER, "columns": COLUMNS, "GATED": True} | FINISHED),
    "add": (layer_triton._added, {"inner": COLUMNS, "columns": INNER}),
    "mix": (layer_triton._mix, {"inner": INNER, "PLACED": True, "WIDTH": WIDTH} | FINISHED),
}
TYPES = {"squares": "*fp32", "cos": "*fp32", "sin": "*fp32", "place": "*i64", "eps": "fp32"} | dict.fromkeys(
    ("rows", "chosen", "length", "heads", "key_heads", "angle_stride"), "i32"
)
CARDS = {"A100": (80, 166_912), "RTX 4090": (89, 101_376), "H200": (90, 232_448)}
CASES = [("A100", "add", 64), ("RTX 4090", "add", 32), ("RTX 4090", "gate", 64), ("RTX 4090", "mix", 32), ("H200", "add", 32), ("H200", "mix", 32), ("H200", "gate", 32)]


def shared(kind: str, rows: int, capability: int, memory: int) -> int:
    """Bytes of a compiled kernel."""
    layer_triton.room_of = lambda device: (132, memory)
    tile = layer_triton.tile_of(kind, torch.empty(rows, INNER, dtype=torch.bfloat16), 3 * INNER)
    options = {name: tile.pop(name) for name in ("num_warps", "num_stages")}
    kernel, fixed = KERNELS[kind]
    fixed = fixed | tile | {"BIAS": False, "WIDE": False}
    names = kernel.arg_names
    types = {name: "constexpr" if name in fixed else TYPES.get(name, "*bf16") for name in names}
    aligned = {(names.index(name),): [["tt.divisibility", 16]] for name in names if types[name].startswith("*")}
    made = triton.compile(
        ASTSource(kernel, types, {(names.index(name),): value for name, value in fixed.items()}, aligned), target=GPUTarget("cuda", capability, 32), options=options
    )
    return made.metadata.shared


if __name__ == "__main__":
    for card, kind, rows in CASES:
        capability, memory = CARDS[card]
        print(json.dumps({"card": card, "kind": kind, "rows": rows, "bytes": shared(kind, rows, capability, memory), "of": memory}), flush=True)
