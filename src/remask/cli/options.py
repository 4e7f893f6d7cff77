"""Options that several verbs have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

TASKS = "wordmath, gsm_aug, fiction, fiction_infill, addition, sudoku or sudoku4; options behind a colon: wordmath:operations=2+4,max_new_tokens=120"
TaskSpec = Annotated[str, typer.Argument(help=TASKS + ".")]
Model = Annotated[str, typer.Option(help="A shipped checkpoint's name, a folder, or a Hub id.")]
TaskModel = Annotated[str, typer.Option(help="Empty: the shipped checkpoint for the task.")]
Revision = Annotated[str | None, typer.Option(help="Of a Hub id.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")]
Dtype = Annotated[str, typer.Option(help="float32, bfloat16, float16; empty: the checkpoint's own.")]
Fused = Annotated[bool, typer.Option("--fused/--no-fused", help="Join the network's matrix products, and leave out padding: LLaDA with rotary positions and Dream.")]
Captured = Annotated[
    bool,
    typer.Option(
        "--captured/--no-captured",
        help="Record the passes as CUDA graphs and replay them, on the fused layers with --fused; on a CPU plain calls. They cannot be traced.",
    ),
]
DecoderSpec = Annotated[str, typer.Option("--decoder", help="e.g. low_confidence, threshold:tau=0.9, factor:f=1; `remask models` lists them.")]
WindowSpec = Annotated[str, typer.Option("--window", help="e.g. whole, blocks:32; `remask models` lists them.")]
ReuseSpec = Annotated[str, typer.Option("--reuse", help="e.g. fresh, dual, surelock:eps=5e-4; `remask models` lists them.")]
Temperature = Annotated[float, typer.Option(help="0 is greedy.")]
TopP = Annotated[float, typer.Option(help="Keep the likeliest tokens up to this share; 1 keeps all.")]
TopK = Annotated[int, typer.Option(help="Keep this many tokens; 0 keeps all.")]
Items = Annotated[int, typer.Option("-n", help="Items.")]
Split = Annotated[str, typer.Option(help="train, valid or test.")]
Batch = Annotated[int, typer.Option(help="Rows decoded together.")]
Rows = Annotated[int, typer.Option(help="Most rows decoded at once.")]
Trace = Annotated[Path | None, typer.Option("--trace", help="Write what every step did, as JSON lines; `remask trace` shows it.")]
Seed = Annotated[int, typer.Option(help="Item or row i uses seed + i.")]
Summaries = Annotated[Path | None, typer.Option(help="The summaries as JSON, written after every batch.")]
