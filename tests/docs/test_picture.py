"""The picture of the README shows what the shipped checkpoints do."""

import importlib.util
import re
from pathlib import Path
from xml.etree import ElementTree

DOCS = Path(__file__).resolve().parents[2] / "docs"


def words(drawn: str) -> list[str]:
    return [text.text or "" for text in ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")]


def test_the_picture_is_what_its_script_draws():
    spec = importlib.util.spec_from_file_location("picture", DOCS / "picture.py")
    picture = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(picture)
    stored = (DOCS / "picture.svg").read_text(encoding="utf-8")
    assert words(picture.picture()) == words(stored), "run python docs/picture.py"
    assert not re.search(r"url\((?!#)|<script|<image", stored), "nothing is fetched from elsewhere"
    assert "213659487" in words(stored)
    assert any(text.endswith("24") for text in words(stored))
