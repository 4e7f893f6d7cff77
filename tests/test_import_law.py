"""Who may import whom (docs/architecture.md, "Who imports whom"): data moves one way because imports do."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "remask"
FREE = {"errors", "citation", "files"}
RECORDS = {"canvas", "randomness", "prediction", "memory", "kernels", "part"}
PARTS = {"decoders", "windows", "reuse", "shapers", "models"}
BORDERS = {"text", "testing", "generate", "likelihood", "spec", "denoise", "compute", "schedules", "channel"}
LAW: dict[str, set[str]] = {
    "errors": set(),
    "citation": set(),
    "canvas": set(),
    "randomness": set(),
    "memory": set(),
    "channel": set(),
    "files": set(),
    "part": set(),
    "registry": set(),
    "kernels": {"randomness"},
    "prediction": {"kernels"},
    "schedules": {"canvas"},
    "shapers": {"kernels"},
    "text": set(),
    "windows": {*RECORDS, "schedules"},
    "decoders": {*RECORDS, "schedules"},
    "reuse": {*RECORDS, "schedules", "models.store"},
    "models": {*RECORDS, "schedules", "channel", "text.tokenizer"},
    "testing": {*RECORDS, "channel", "models.store", "models.shadow"},
    "compute": {*RECORDS, "models.base", "models.store", "models.shadow"},
    "combinations": {"decoders.base", "reuse.base"},
    "denoise": {
        *RECORDS,
        "combinations",
        "models.shadow",
        "schedules",
        "compute",
        "shapers",
        "windows.base",
        "windows.whole",
        "decoders.base",
        "decoders.low_confidence",
        "reuse.base",
        "reuse.fresh",
    },
    "fixed_shapes": {*RECORDS, "models.store", "reuse.base", "compute", "denoise"},
    "captured": {*RECORDS, "models.base", "models.bodies", "models.held", "models.store", "compute", "denoise", "fixed_shapes"},
    "spec": {*PARTS, "continuous", "registry"},
    "likelihood": {*RECORDS, "compute"},
    "generate": {*RECORDS, *PARTS, "denoise", "text"},
    **{name: {*RECORDS, *PARTS, *BORDERS} for name in ("continuous", "search", "trace", "training")},
    "evaluation": {*RECORDS, *PARTS, *BORDERS, "continuous", "trace"},
    "engine": {*RECORDS, *PARTS, *BORDERS, "trace"},
    "batch": {*RECORDS, *PARTS, *BORDERS, "trace", "engine"},
    "server": {*RECORDS, *PARTS, *BORDERS, "trace", "engine"},
}
"""Module or package -> what it may import beside itself, the errors and the papers; the command line and the public names may import all."""

SHARED = {
    "decoders": {"base", "scores", "select", "pace"},
    "windows": {"base"},
    "reuse": {"base", "blocks"},
    "models": {"base", "config", "weights", "store", "attention", "shadow", "bodies", "held"},
}
"""What the files of a package may import from it; other files there are siblings."""

SIBLINGS = {
    ("windows.daedal", "windows.blocks"): "blocks on a canvas that grows",
    ("reuse.fast_dllm", "reuse.fresh"): "a default: the rule inside the block",
    ("models.dsl", "models.mdlm"): "a DSL network is an MDLM that reads states as well",
    **{(f"models.{by}", f"models.{family}"): "layers of the family, computed another way" for by in ("fused", "fused_model", "parallel") for family in ("llada", "dream")},
    ("models.fused_model", "models.fused"): "a network that is computed by the fused layers",
}
"""The exceptions, each with its reason."""


def modules() -> list[str]:
    return sorted(".".join(path.relative_to(SOURCE).with_suffix("").parts) for path in SOURCE.rglob("*.py"))


@cache
def imports(module: str) -> frozenset[str]:
    """The modules of ours that a module names in an import, wherever it stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((SOURCE / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import; write it out"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(name.removeprefix("remask.") for name in found if name.startswith("remask."))


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("module", [name for name in modules() if name.partition(".")[0] not in ("cli", "public", "__init__", "__main__")])
def test_every_module_imports_only_what_the_law_allows(module):
    own = module.partition(".")[0]
    assert own in LAW, f"{own} is new: say in LAW what it may import"
    strangers = [name for name in imports(module) if not any(within(name, allowed) for allowed in {own, *FREE, *LAW[own]})]
    assert not strangers


@pytest.mark.parametrize("module", [name for name in modules() if name.partition(".")[0] in SHARED and not name.endswith(("__init__", "models.loading"))])
def test_siblings_never_import_each_other(module):
    """The lists of a package's parts name them all: its `__init__`, and of the families models.loading."""
    package = module.partition(".")[0]
    own = {name for name in imports(module) if within(name, package)}
    allowed = {f"{package}.{name}" for name in SHARED[package]} | {sibling for (who, sibling) in SIBLINGS if who == module}
    assert not {name for name in own if not any(within(name, known) for known in allowed)}


def test_only_the_command_line_takes_public_names():
    """`from remask import x` asks for the public names, whose modules are being imported while a module of ours is."""
    sources = {module: (SOURCE / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8") for module in modules() if module.partition(".")[0] != "cli"}
    nodes = [(module, node) for module, source in sources.items() for node in ast.walk(ast.parse(source))]
    assert not [module for module, node in nodes if isinstance(node, ast.ImportFrom) and node.module == "remask"]


def test_nothing_below_imports_the_command_line_or_the_server():
    below = [module for module in modules() if module.partition(".")[0] not in ("cli", "server", "__main__")]
    assert not [(module, name) for module in below for name in imports(module) if within(name, "cli") or within(name, "server")]


def test_options_of_verbs_are_declared_in_one_file_and_what_they_name_is_opened_in_another():
    assert not imports("cli.options")
    tree = ast.parse((SOURCE / "cli" / "opening.py").read_text(encoding="utf-8"))
    assert "typer" not in {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


LATE = ("typer", "click", "rich", "jinja2", "huggingface_hub", "tokenizers", "triton", "matplotlib", "starlette", "uvicorn", "http.server")


def test_importing_remask_loads_torch_and_little_more():
    """What a border needs is imported when it is used: the same list before and after, beside what torch itself loads."""
    script = f"import torch, sys; before = set(sys.modules); import remask.public; print(*[name for name in {LATE!r} if name in sys.modules and name not in before])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
