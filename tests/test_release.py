"""What a release says of itself is said once, or in the same words everywhere."""

import re
import tomllib
from pathlib import Path

import pytest

import remask

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_version_is_one():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.+)$", citation, flags=re.MULTILINE) == [remask.__version__]
    assert re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[0] == remask.__version__
    assert PROJECT["dynamic"] == ["version"]


def test_the_citation_has_what_its_format_asks_for():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert {"cff-version", "message", "title", "authors", "version", "license", "type"} <= set(re.findall(r"^([a-z-]+):", citation, flags=re.MULTILINE))


def test_the_licence_is_one():
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").strip().startswith("Apache License")
    assert PROJECT["license"] == "Apache-2.0"
    assert "license: Apache-2.0" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert "Licence: Apache-2.0" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("card", sorted((ROOT / "checkpoints").glob("*/README.md")), ids=lambda card: card.parent.name)
def test_a_shipped_checkpoint_says_what_it_learned_from_and_its_licence(card):
    text = card.read_text(encoding="utf-8")
    for said in ("**Data**", "**Recipe**", "**Metrics**", "Licence: Apache-2.0"):
        assert said in text


def test_shipped_checkpoints_stay_small():
    """What a checkout has to carry, in bytes."""
    sizes = {folder.name: sum(file.stat().st_size for file in folder.iterdir()) for folder in (ROOT / "checkpoints").iterdir()}
    assert sum(sizes.values()) < 128e6
    assert all(size < 24e6 for name, size in sizes.items() if name.startswith("fiction"))
