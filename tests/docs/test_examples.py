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


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md"])
def test_named_files_exist(page):
    named = set(re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.(?:py|md)|[a-z_]+/)`", (ROOT / page).read_text()))
    roots = (ROOT, ROOT / "src" / "remask")
    assert not [name for name in named if not any((root / name).exists() for root in roots)]
