"""Every command of the tutorial runs as it stands there, in its order; what needs a large network, many items or many steps runs with small ones."""

import contextlib
import io
import itertools
import json
import re
import shlex
import shutil
from pathlib import Path
from unittest import mock

import pytest
import typer

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

import uvicorn

from remask.cli import app
from tests.cli.test_commands import remask_command
from tests.server.serving import post, serving, write_checkpoint

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE)
SMALLER = {
    " --device cuda": " --device cpu",
    " -n 16": " -n 2",
    " --valid 32 --test 32": " --valid 2 --test 2",
    "train reverse.py": "train reverse.py --steps 3",
    "--max-new-tokens 128": "--max-new-tokens 64",
    "--max-new-tokens 200 --decoder remdm:steps=64": "--max-new-tokens 16 --decoder remdm:steps=4",
    "--max-new-tokens 200 --decoder remdm:steps=16": "--max-new-tokens 16 --decoder remdm:steps=4",
}
ONLY_PARSED = ("remask eval --harness", "remask train recipes/sudoku.py --prepare", "remask train fiction")
"""Commands that would fetch a data set or make one for minutes."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "checkpoints").symlink_to(ROOT / "checkpoints")
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def parsed(words: list[str]) -> None:
    """Raises on an option that does not exist or a value of the wrong kind."""
    command = typer.main.get_command(app).commands[words[1]]
    context = command.make_context(words[1], words[2:])
    if hasattr(command, "commands"):
        _, inner, rest = command.resolve_command(context, words[2:])
        inner.make_context(words[1], rest)


def run(line: str, address: str) -> None:
    words = shlex.split(line)
    if words[0] == "curl":
        url, body = words[1], words[words.index("-d") + 1]
        status, answer = post(address, url.partition("8000")[2], body.encode())
        assert status == 200, answer
    elif words[0] == "hf":
        Path(words[words.index("--local-dir") + 1]).mkdir()
        write_checkpoint(Path(words[words.index("--local-dir") + 1]))
    elif line.startswith(ONLY_PARSED):
        parsed(words)
    else:
        with mock.patch.object(uvicorn, "run") as served:
            done = remask_command(*words[1:])
        assert done.returncode == 0, (line, done.stderr)
        assert done.stdout.strip() or "--html" in words or words[1] == "serve"
        assert served.called == (words[1] == "serve")


def test_the_commands_run_in_their_order(folder):
    (folder / "letters").mkdir()
    write_checkpoint(folder / "letters", scale=8.0)
    ran = []
    with serving(folder / "letters", name="demo") as (address, _):
        for kind, block in BLOCKS:
            if kind == "python" and "def recipe" in block:
                (folder / "reverse.py").write_text(block, encoding="utf-8")
            for line in block.strip().splitlines() if kind == "sh" else ():
                for large, small in SMALLER.items():
                    line = line.replace(large, small)
                run(line, address)
                ran.append(line.split()[:2])
    verbs = {verb for _, verb in ran}
    assert {"generate", "trace", "bench", "serve", "train", "eval"} <= verbs
    assert (folder / "runs" / "ann.html").exists()
    assert json.loads((folder / "runs" / "frontier" / "frontier.jsonl").read_text().splitlines()[0])["items"] == 2
    shutil.rmtree(folder / "runs")


def test_the_shown_output_is_what_the_code_prints(folder):
    (kind, code), (shown_kind, shown) = next(pair for pair in itertools.pairwise(BLOCKS) if pair[1][0] == "text")
    assert (kind, shown_kind) == ("python", "text")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, "tutorial", "exec"), {"__name__": "example"})
    assert printed.getvalue() == shown
