"""Every link inside the repository's pages leads to a file that is there, and to a heading that it has. Nothing is fetched."""

import itertools
import re
from pathlib import Path

import pytest

markdown_it = pytest.importorskip("markdown_it", reason="markdown-it-py is not installed (pip install -e '.[dev]')")

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(path.relative_to(ROOT).as_posix() for pattern in ("*.md", "docs/**/*.md", "checkpoints/*/*.md") for path in ROOT.glob(pattern))
MARKDOWN = markdown_it.MarkdownIt("commonmark").enable("table")


def tokens(text):
    """Of a page, the inner ones behind the outer."""
    for token in MARKDOWN.parse(text):
        yield token
        yield from token.children or ()


def links(text):
    """The targets of links and pictures."""
    return [token.attrs["href" if token.type == "link_open" else "src"] for token in tokens(text) if token.type in ("link_open", "image")]


def anchors(text):
    """The headings as GitHub and the site name them: small letters, hyphens for spaces, no other marks."""
    parsed = MARKDOWN.parse(text)
    titles = [inline.content for opened, inline in itertools.pairwise(parsed) if opened.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    broken = []
    for target in links((ROOT / page).read_text(encoding="utf-8")):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        if not file.is_file() or (anchor and anchor not in anchors(file.read_text(encoding="utf-8"))):
            broken.append(target)
    assert broken == []


def test_the_test_sees_links_and_headings():
    text = "# The `--help` of it, all\n\n| a |\n|---|\n| [x](y.md#z) |\n\n![p](q.svg) and [up](#the---help-of-it-all), not `[code](c.md)`\n"
    assert links(text) == ["y.md#z", "q.svg", "#the---help-of-it-all"]
    assert anchors(text) == {"the---help-of-it-all"}


def test_every_page_of_the_documents_is_in_the_site():
    """Named in the index, or by its pattern."""
    named = re.findall(r"^(?!:)([\w/*]+)$", (ROOT / "docs" / "index.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = {path.relative_to(ROOT / "docs").as_posix() for name in named for path in (ROOT / "docs").glob(f"{name}.md")}
    assert found | {"index.md"} == {page.removeprefix("docs/") for page in PAGES if page.startswith("docs/")}
