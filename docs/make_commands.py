"""Writes docs/commands.md from the help texts of the command line.

python docs/make_commands.py
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from remask.cli import app

PAGE = Path(__file__).resolve().parent / "commands.md"
INTRODUCTION = """# The commands

This page is made by `python docs/make_commands.py` from what `--help` prints; a test keeps it up to date. Wrong input ends in one line on standard error and exit status 2.
"""


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The command, and all below it, with their full names."""
    yield name, command
    for below, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, f"{name} {below}")


def prose(text: str) -> str:
    """A help text: what stands behind a line of \\b keeps its lines."""
    shown: list[str] = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        head, kept, block = paragraph.partition("\b\n")
        shown += [" ".join(head.split())] if head.strip() else []
        shown += [f"```text\n{block.rstrip()}\n```"] if kept else []
    return "\n\n".join(shown)


def row(parameter: Any) -> str:
    """One line of the table of options."""
    names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    if parameter.param_type_name == "argument":
        names = f"`{parameter.name.upper()}`"
    given = parameter.default
    if parameter.required:
        default = "needed"
    elif given is None or given == "" or (isinstance(given, bool) and not parameter.secondary_opts):
        default = ""
    else:
        default = f"`{parameter.opts[0] if given is True else parameter.secondary_opts[0] if given is False else given}`"
    told = parameter.help + (f" Or in the environment: `{parameter.envvar}`." if parameter.envvar else "")
    more = " (may be given many times)" if parameter.multiple and "many times" not in told else ""
    return f"| {names} | {default} | {escaped(told + more)} |"


def escaped(text: str) -> str:
    """Inside a table."""
    return re.sub(r"([|<>*])", r"\\\1", " ".join(text.split()))


def section(name: str, command: Any) -> str:
    """A command's heading, help text and options."""
    lines = [f"## {name}", "", prose(command.help or ""), ""]
    below = getattr(command, "commands", {})
    if below:
        lines += ["Commands: " + ", ".join(f"[`{inner}`](#{name.replace(' ', '-')}-{inner})" for inner in below) + ".", ""]
    asked = [parameter for parameter in command.params if parameter.name != "help"]
    if asked:
        lines += ["| option | default | |", "|---|---|---|", *map(row, asked), ""]
    return "\n".join(lines)


def page() -> str:
    """The whole page."""
    return "\n".join([INTRODUCTION, *(section(name, command) for name, command in commands(typer.main.get_command(app), "remask"))]).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
