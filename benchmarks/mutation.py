"""Would the tests notice? Break the core in sampled places, one at a time, and run the tests that concern it.

pip install cosmic-ray && python benchmarks/mutation.py --folder FOLDER

Cosmic Ray makes the mutants; a sample of their places is drawn, annotations and the papers aside, and one mutant of each. They are made in a copy of the checkout under FOLDER,
where an unfinished run is continued. A mutant is killed when a test fails or the tests take longer than the limit; the latter are counted apart, since on a busy machine
one that changes nothing runs into the limit too.
"""

from __future__ import annotations

import argparse
import ast
import collections
import os
import random
import shlex
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import remask

ROOT = Path(__file__).resolve().parents[1]
EACH = ["tests/test_records.py", "tests/golden"]
GROUPS = {
    "canvas": ["tests/test_canvas.py", *EACH, "tests/test_infill.py", "tests/test_memory.py", "tests/test_daedal.py", "tests/engine/test_records.py", "tests/test_public_names.py"],
    "prediction": ["tests/test_prediction.py", *EACH, "tests/test_markov_oracle.py", "tests/test_combinations.py", "tests/reuse", "tests/models/test_shadow.py"],
    "denoise": [
        "tests/test_denoise.py", *EACH, "tests/test_infill.py", "tests/test_daedal.py", "tests/test_combinations.py", "tests/test_public_names.py", "tests/models/test_shadow.py",
    ],
    "decoders": [
        *EACH, "tests/decoders", "tests/test_starr.py", "tests/test_remdm.py", "tests/test_decoder_oracles.py", "tests/test_revisers.py", "tests/test_combinations.py",
        "tests/parity", "tests/docs/test_choosing.py", "tests/cli/test_commands.py",
    ],
    "reuse": [*EACH, "tests/reuse", "tests/test_captured.py", "tests/test_combinations.py", "tests/models/test_active_rows.py", "tests/parity", "tests/docs/test_choosing.py"],
}  # fmt: skip
"""What is broken, a module or a package, and the tests that concern it beside the laws."""


def laws(module: Path) -> list[str]:
    """The laws that a mutant of a module meets: those of the decoders or rules that stand in it, else of a few combinations."""
    name = f"remask.{'.'.join(module.relative_to('src/remask').with_suffix('').parts)}"
    parts = [known for registry in (remask.decoders(), remask.reuses()) for known, kind in registry.items() if kind.__module__ == name]
    keys = parts or ["low_confidence-whole", "threshold-blocks:3-fresh", "joint_threshold", "wino-whole", "core-blocks:3", "prefix", "adaptive"]
    return ["tests/laws", "-k", " or ".join(keys)]


def annotated(source: str) -> set[tuple[int, int]]:
    """(line, column) of the operators and numbers that are no behaviour: in annotations and in papers."""
    inside: set[tuple[int, int]] = set()
    for node in ast.walk(ast.parse(source)):
        hints = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        paper = [node] if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Paper" else []
        for skipped in [hint for hint in hints if hint is not None] + paper:
            lines = source.splitlines()
            for line in range(skipped.lineno, (skipped.end_lineno or skipped.lineno) + 1):
                first = skipped.col_offset if line == skipped.lineno else 0
                last = (skipped.end_col_offset or 0) if line == skipped.end_lineno else len(lines[line - 1])
                inside |= {(line, column) for column in range(first, last)}
    return inside


def checkout(folder: Path) -> Path:
    """A copy of the checkout whose compiled files are checked by their source, so that a mutant of equal length and second is not overlooked."""
    copy = folder / "checkout"
    if not copy.exists():
        kept = ("src", "tests", "docs", "recipes", "benchmarks", "checkpoints", "README.md", "pyproject.toml")
        for name in kept:
            where = ROOT / name
            shutil.copytree(where, copy / name, ignore=shutil.ignore_patterns("__pycache__")) if where.is_dir() else shutil.copy(where, copy / name)
        shutil.copytree(copy / "src", folder / "unbroken")
        subprocess.run([sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "checked-hash", "src", "tests"], cwd=copy, check=True)
    return copy


def mend(copy: Path) -> None:
    """Put back what a run that was interrupted left broken: every later mutant would be killed by the tests that see that one."""
    for path in (copy.parent / "unbroken").rglob("*.py"):
        place = copy / "src" / path.relative_to(copy.parent / "unbroken")
        if place.read_bytes() != path.read_bytes():
            print(f"{place.relative_to(copy)} was left broken; put back", flush=True)
            shutil.copy(path, place)


def sampled(session: Path, copy: Path, count: int, seed: int) -> int:
    """Keep `count` mutants of the session, one of each place that is drawn; the number of places there were."""
    with sqlite3.connect(session) as base:
        found = base.execute("select job_id, module_path, operator_name, start_pos_row, start_pos_col from mutation_specs order by module_path, operator_name, occurrence, job_id")
        places: dict[tuple[str, int, int, str], list[str]] = collections.defaultdict(list)
        silent = {path: annotated((copy / path).read_text(encoding="utf-8")) for (path,) in base.execute("select distinct module_path from mutation_specs")}
        for job, path, operator, row, column in found:
            if (row, column) not in silent[path]:
                places[path, row, column, operator.partition("_")[0]].append(job)
        chance = random.Random(seed)
        drawn = {chance.choice(places[place]) for place in chance.sample(sorted(places), min(count, len(places)))}
        for table in ("work_items", "mutation_specs"):
            jobs = [job for (job,) in base.execute(f"select job_id from {table}")]
            base.executemany(f"delete from {table} where job_id = ?", [(job,) for job in jobs if job not in drawn])
    return len(places)


def run(group: str, copy: Path, folder: Path, count: int, seed: int, limit: float) -> list[tuple[str, str, str]]:
    """(module, outcome, diff) of every sampled mutant of a group."""
    root = Path("src/remask") / group
    root = root if (copy / root).is_dir() else root.with_suffix(".py")
    environment = {**os.environ, "PYTHONPATH": "src", "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    session, config = folder / f"{group}.sqlite", folder / f"{group}.toml"
    script = [sys.executable, str(Path(__file__).resolve()), "--tests-of", group]
    config.write_text(
        f'[cosmic-ray]\nmodule-path = "{root}"\ntimeout = {limit}\nexcluded-modules = []\ntest-command = {shlex.join(script)!r}\n[cosmic-ray.distributor]\nname = "local"\n'
    )
    mend(copy)
    tool = [sys.executable, "-m", "cosmic_ray.cli"]
    if not session.exists():
        subprocess.run([*tool, "init", str(config), str(session)], cwd=copy, env=environment, check=True, capture_output=True)
        print(f"{group}: {sampled(session, copy, count, seed)} places", flush=True)
        if subprocess.run(script, cwd=copy, env=environment, check=False, capture_output=True).returncode:
            sys.exit(f"the tests of {group} fail although nothing is broken")
    subprocess.run([*tool, "exec", str(config), str(session)], cwd=copy, env=environment, check=True)
    with sqlite3.connect(session) as base:
        outcome = "case output when 'timeout' then 'TIMEOUT' else test_outcome end"
        return list(base.execute(f"select module_path, {outcome}, diff from mutation_specs join work_results using (job_id) order by module_path, start_pos_row"))


def run_tests(group: str) -> int:
    """In the copy: the tests of the group, then the laws of what differs from the unbroken files; the first status that is not 0."""
    changed = [path for path in Path("src").rglob("*.py") if path.read_bytes() != (Path("../unbroken") / path.relative_to("src")).read_bytes()]
    pytest = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-o", "addopts=", "-p", "no:cacheprovider", "-p", "no:randomly"]
    for chosen in (GROUPS[group], laws(changed[0]) if changed else ["tests/laws/test_adaptive.py"]):
        status = subprocess.run([*pytest, *chosen], check=False).returncode
        if status not in (0, 5):  # 5: no test of that name
            return status
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="For the copy and the results.")
    parser.add_argument("--count", type=int, nargs=5, default=[25, 20, 30, 45, 25], help=f"Mutants of {', '.join(GROUPS)}.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=240.0, help="Seconds for the tests of one mutant.")
    parser.add_argument("--tests-of", choices=GROUPS, help="Used by this script itself.")
    asked = parser.parse_args()
    if asked.tests_of:
        sys.exit(run_tests(asked.tests_of))
    if asked.folder is None:
        parser.error("--folder is needed")
    copy = checkout(asked.folder.absolute())
    lines = []
    for group, count in zip(GROUPS, asked.count, strict=True):
        if not count:
            continue
        found = run(group, copy, asked.folder.absolute(), count, asked.seed, asked.limit)
        killed, late = (sum(outcome.endswith(word) for _, outcome, _ in found) for word in ("KILLED", "TIMEOUT"))
        lines.append(f"| `{group}` | {len(found)} | {killed} | {late} | {(killed + late) / len(found):.0%} |")
        for module, outcome, diff in found:
            if not outcome.endswith("KILLED"):
                print(f"{outcome} in {module}\n{diff}\n", flush=True)
    print("| broken | mutants | killed | over the limit | share |\n|---|---|---|---|---|", *lines, sep="\n")
