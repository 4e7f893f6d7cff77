"""Parts of another distribution are parts like ours: on the command line, in the laws, in the bench and on the page. Each in a process of its own, as a user's."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from remask.decoders import DECODERS, Decoder
from remask.errors import RemaskError
from remask.registry import Registry
from remask.reuse import REUSES, Reuse
from remask.windows import WINDOWS, Window

ROOT = Path(__file__).resolve().parents[2]
PARTS = {"decoders": "share = foreign_parts:Share", "windows": "leftmost = foreign_parts:Leftmost", "reuses": "now = foreign_parts:Now"}


def install(folder: Path, name: str, groups: dict[str, str]) -> None:
    """What an installer leaves of a distribution's entry points."""
    about = folder / f"{name}-0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
    (about / "entry_points.txt").write_text("".join(f"[remask.{group}]\n{line}\n" for group, line in groups.items()))


@pytest.fixture
def folder(tmp_path):
    shutil.copy(Path(__file__).with_name("parts.py"), tmp_path / "foreign_parts.py")
    return tmp_path


@pytest.fixture
def installed(folder):
    install(folder, "foreign", PARTS)
    return folder


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(folder), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=ROOT, env=environment)


def test_the_command_line_lists_the_parts_and_decodes_with_them(installed, checkpoint):
    listed = python(installed, "-m", "remask", "models").stdout
    assert [line for line in listed.splitlines() if line.strip().partition(":")[0] in ("share", "leftmost", "now")] == ["  share:share=0.25", "  leftmost:width=4", "  now:every=2"]
    own = ["--decoder", "spaced:inner=(share:0.5)", "--window", "leftmost:width=3", "--reuse", "now:every=3"]
    done = python(installed, "-m", "remask", "generate", "12", "--model", str(checkpoint), "--max-new-tokens", "6", "--json", *own)
    assert done.returncode == 0, done.stderr
    assert 2 <= json.loads(done.stdout)["forwards"] <= 6


def test_the_laws_hold_the_parts_to_their_word(installed):
    laws = [f"tests/laws/{name}.py" for name in ("test_laws", "test_memories", "test_revision")]
    chosen = "share-leftmost-now or share-whole-surelock or threshold-leftmost-fresh or factor-blocks:3-now or (share and (spec_string or say_so or decode_is_the_last))"
    held = python(installed, "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider", "-v", *laws, "-k", chosen)
    assert held.returncode == 0, held.stdout
    for law in ("test_the_laws_hold", "test_a_row_does_not_notice_its_neighbours"):
        for combination in ("share-leftmost-now", "share-whole-surelock", "threshold-leftmost-fresh", "factor-blocks:3-now"):
            assert f"{law}[{combination}] PASSED" in held.stdout
    for law in ("test_decode_is_the_last_step_of_denoise[share-whole]", "test_only_decoders_that_say_so_change_what_they_wrote[share]"):
        assert f"{law} PASSED" in held.stdout


def test_the_bench_draws_the_frontier_of_the_decoder(installed, checkpoint, tmp_path):
    options = ["--valid", "2", "--test", "2", "--model", str(checkpoint), "--window", "leftmost", "--reuse", "now", "--out", str(tmp_path / "out")]
    done = python(installed, "-m", "remask", "bench", "frontier", "sudoku4", "--decoders", "share share:share=0.5", *options)
    assert done.returncode == 0, done.stderr
    points = [json.loads(line) for line in (tmp_path / "out" / "frontier.jsonl").read_text().splitlines()]
    assert {"share", "share:share=0.5"} <= {point["decoder"] for point in points}
    assert {(point["window"], point["reuse"]) for point in points} == {("leftmost", "now")}


def test_the_page_on_choosing_has_a_line_for_each(installed):
    made = python(installed, "-c", "import runpy; print(runpy.run_path('docs/make_choosing_a_decoder.py')['page']())").stdout
    assert "| `share` | Write a fixed share of what is still masked, most confident first. | `share=0.25` |  |" in made
    assert "| `leftmost` | The first masks of a row, at most `width` of them. | `width=4` |  |" in made
    assert "| `now` | Whole rows: every `every` steps, and when something was edited. | `every=2` |  |" in made


def test_a_part_is_imported_when_its_name_is_asked_for_and_is_its_spec_string(installed):
    script = """
import sys, remask
remask.parse_decoder("threshold:tau=0.8"), str(remask.Blocks(8))
assert "foreign_parts" not in sys.modules
import foreign_parts
assert str(foreign_parts.Share(0.5)) == "share:share=0.5"
assert remask.parse_decoder("share:share=0.5") == foreign_parts.Share(0.5)
class Own(foreign_parts.Share): pass
assert str(Own(0.5)) == repr(Own(0.5))
print(*[name for kind in (remask.decoders, remask.windows, remask.reuses) for name in kind() if name in ("share", "leftmost", "now")])
"""
    done = python(installed, "-c", script)
    assert done.stdout == "share leftmost now\n", done.stderr


BROKEN = {
    "an import that fails": ("decoder", "share = parts_of_old:Share", "cannot load the decoder 'share' of foreign (parts_of_old:Share): ModuleNotFoundError"),
    "a class that is gone": ("window", "leftmost = foreign_parts:Rightmost", "cannot load the window 'leftmost' of foreign (foreign_parts:Rightmost): AttributeError"),
    "a part of another kind": ("reuse", "now = foreign_parts:Share", "'now' of foreign (foreign_parts:Share) is no frozen dataclass with the base remask.reuse.base.Reuse"),
    "no class": ("decoder", "share = foreign_parts:top", "is no frozen dataclass with the base remask.decoders.base.Decoder; repair or uninstall foreign"),
    "a class that may change": ("window", "leftmost = foreign_parts:Loose", "'leftmost' of foreign (foreign_parts:Loose) is no frozen dataclass"),
    "a name of ours": ("decoder", "threshold = foreign_parts:Share", "foreign brings a decoder 'threshold', and so does remask; rename it, or uninstall one of the two"),
    "a name that is no word": ("decoder", "share:more = foreign_parts:Share", "foreign brings a decoder named 'share:more'; a name is letters"),
}
OWN = {"decoder": (Decoder, DECODERS), "window": (Window, WINDOWS), "reuse": (Reuse, REUSES)}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_part_is_named_and_stops_nothing_else(case, folder, monkeypatch):
    kind, line, message = BROKEN[case]
    install(folder, "foreign", {f"{kind}s": line})
    monkeypatch.syspath_prepend(folder)
    registry = Registry(kind, *OWN[kind])
    for name, own in OWN[kind][1].items():
        assert registry[name] is own
    with pytest.raises(RemaskError) as said:
        dict(registry)
    assert message in str(said.value)


def test_two_distributions_with_one_name_are_both_named(folder, monkeypatch):
    install(folder, "foreign", PARTS)
    install(folder, "alien", {"decoders": "share = foreign_parts:Share"})
    monkeypatch.syspath_prepend(folder)
    with pytest.raises(RemaskError, match=r"(foreign|alien) brings a decoder 'share', and so does (foreign|alien)"):
        _ = "share" in Registry("decoder", *OWN["decoder"])


def test_a_broken_distribution_is_one_line_on_the_command_line(folder):
    install(folder, "foreign", {"decoders": "share = parts_of_old:Share"})
    done = python(folder, "-m", "remask", "models")
    assert done.returncode == 2
    assert done.stderr.startswith("error: cannot load the decoder 'share' of foreign")
    assert done.stderr.count("\n") == 1
