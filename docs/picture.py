"""Draws docs/picture.svg, the picture of the README: `python docs/picture.py`. Every pass is a real one of the shipped checkpoints."""

import io
import re
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.terminal_theme import MONOKAI
from rich.text import Text

import remask
from remask.trace.terminal import paint

HERE = Path(__file__).resolve().parent
PUZZLE = "013009480000000605000700091400000500090065000070300010040000050006000300500200004"
PROBLEM = (
    "Iris has 137 scarves. Vera has as many scarves as Rae plus 174. Emil would need 98 more scarves to match Una. "
    "Multiply the scarves of Iris by 5 and you get those of Rae. Add 65 to the scarves of Vera and you get those of Una. Find how many scarves Una has."
)
DECODER = "threshold:tau=0.9"


def passes(name: str, prompt: str, room: int, *, columns: int | None = None) -> list[Text]:
    """The canvas after each pass, coloured as the live view colours it."""
    model = remask.load(HERE.parent / "checkpoints" / name, dtype="float32")
    ids = model.tokenizer.encode(prompt)
    canvas = remask.Canvas.from_prompts([ids], max_new_tokens=room, mask_id=model.mask_id)
    steps = remask.denoise(model, canvas, decoder=remask.parse_decoder(DECODER), early_stop=True)
    shown = [paint(step, model.tokenizer, first=len(ids), columns=columns) for step in steps]
    for text in shown:
        text.rstrip()
    return [text[text.plain.startswith(" ") :] for text in shown]


def picture() -> str:
    """The whole as SVG, without fonts from elsewhere."""
    console = Console(record=True, width=104, file=io.StringIO(), force_terminal=True, color_system="truecolor", legacy_windows=False)
    solved, worked = passes("sudoku", PUZZLE, 81, columns=9), passes("demo", PROBLEM, 128)
    console.print(Text(f"$ remask generate {PUZZLE[:18]}... --max-new-tokens 81 --model sudoku --decoder {DECODER} --watch", style="bold"))
    grids = Table.grid(padding=(0, 4))
    grids.add_row(*(Text(f"pass {number}", style="dim") for number in range(1, len(solved) + 1)))
    grids.add_row(*solved)
    console.print(Padding(grids, (1, 0)))
    console.print(Text(f'$ remask generate "{PROBLEM}" --decoder {DECODER} --watch', style="bold"))
    lines = Table.grid(padding=(0, 2))
    for number, text in enumerate(worked, start=1):
        lines.add_row(Text(f"pass {number}", style="dim"), text)
    console.print(Padding(lines, (1, 0, 0, 0)))
    drawn = console.export_svg(title="remask", theme=MONOKAI, unique_id="remask")
    return re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)


if __name__ == "__main__":
    (HERE / "picture.svg").write_text(picture(), encoding="utf-8")
