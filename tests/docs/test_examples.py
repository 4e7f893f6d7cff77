"""What the documents show runs as it stands there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = [(page, index) for page in ("README.md", "docs/writing_a_decoder.md") for index in range((ROOT / page).read_text().count("```python"))]


@pytest.mark.parametrize(("page", "index"), EXAMPLES)
def test_examples_run(page, index, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    code = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)[index]
    exec(compile(code, f"{page} #{index}", "exec"), {"__name__": "example"})
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{name}.md" for name in ("architecture", "writing_a_decoder", "tutorial", "findings"))])
def test_named_files_exist_and_hold_what_is_named(page):
    """`models/store.py: Memory.mix` is a file, and the last of the words stands in it."""
    named = re.findall(r"`((?:[a-z_]+/)*[a-z_]+\.(?:py|md|html)|[a-z_]+/)(?:: ?([\w.]+))?`", (ROOT / page).read_text())
    made = ("reverse.py",)  # by the reader of the tutorial
    for name, inside in named:
        found = [path for root in (ROOT, ROOT / "src" / "remask", ROOT / "docs") if (path := root / name).exists()]
        assert found or name in made, name
        assert not inside or inside.rpartition(".")[2] in found[0].read_text(encoding="utf-8"), (name, inside)
