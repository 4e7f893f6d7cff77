"""The page of the commands says what `--help` says."""

import re
import runpy
from pathlib import Path

from tests.cli.test_commands import remask_command

DOCS = Path(__file__).resolve().parents[2] / "docs"
SCRIPT = runpy.run_path(str(DOCS / "make_commands.py"), run_name="script")
STORED = (DOCS / "commands.md").read_text(encoding="utf-8")


def test_the_page_is_up_to_date():
    assert SCRIPT["page"]() == STORED, "run python docs/make_commands.py"


def test_every_option_that_help_prints_is_on_the_page(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    for section in re.split(r"^## remask", STORED, flags=re.MULTILINE)[2:]:
        words = section.partition("\n")[0].split()
        shown = remask_command(*words, "--help").stdout
        options = set(re.findall(r"^│ (?:\*  )?(--[a-z][a-z-]*)", shown, flags=re.MULTILINE)) - {"--help"}
        assert options <= set(re.findall(r"`(--[a-z][a-z-]*)`", section)), words
        assert options or words in (["eval"], ["bench"]), words
