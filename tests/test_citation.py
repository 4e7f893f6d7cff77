"""What is cited: the papers of exactly the parts in use, once each, in entries that BibTeX reads."""

import re

import remask
from remask.citation import Paper, papers_of
from remask.models.loading import FAMILIES

WITHOUT = {"whole", "fresh", "risk", "CausalJudge"}
"""Parts that are nobody's invention or ours, and a network of our own."""


def test_every_part_and_family_names_its_papers():
    registered = {**remask.decoders(), **remask.windows(), **remask.reuses(), **FAMILIES}
    assert {name for name, part in registered.items() if not list(papers_of(part))} == WITHOUT


def test_a_paper_that_two_parts_come_from_is_cited_once_and_parts_inside_parts_are_found():
    shared = remask.citation(remask.Threshold(0.9), remask.Dual(inner=remask.SureLock()), remask.Whole())
    assert re.findall(r"eprint = \{(.*?)\}", shared) == ["2505.22618", "2602.06412"]
    assert re.findall(r"eprint = \{(.*?)\}", remask.citation(remask.parse_decoder("spaced:inner=(klass)"))) == ["2506.19037", "2511.05664"]
    assert remask.citation(remask.Whole()) == ""


def test_entries_are_whole_and_agree_with_what_the_files_say():
    """One entry a paper; its keys are unlike, its braces close, its arXiv id is a real one and of its year or the one before."""
    found = list(dict.fromkeys(paper for part in [*remask.decoders().values(), *remask.reuses().values(), *FAMILIES.values()] for paper in papers_of(part)))
    assert len({paper.arxiv for paper in found}) == len(found)
    for paper in found:
        assert re.fullmatch(r"\d{4}\.\d{5}", paper.arxiv)
        assert int(paper.arxiv[:2]) == paper.year - 2000
        assert paper.bibtex.count("{") == paper.bibtex.count("}")
        assert "," not in paper.authors, "names are joined by and"
    assert "author" not in Paper("A title", "2501.00001", 2025).bibtex
