"""What the command line may wait for before it answers."""

import json
import subprocess
import sys

import pytest

from remask.models.loading import FAMILIES
from tests.evaluation.text.test_judge import CONFIG as JUDGE
from tests.networks import CONFIGS

SCRIPT = """
import sys
from remask.cli import main
try:
    main()
finally:
    print(*[name for name in ("torch", "numpy", "remask.public") if name in sys.modules], file=sys.stderr)
"""


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["generate", "--help"], ["bench", "frontier", "--help"], ["sing"]], ids=" ".join)
def test_help_and_wrong_verbs_do_not_wait_for_torch(arguments):
    done = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == (2 if arguments == ["sing"] else 0)
    assert done.stderr.splitlines()[-1] == ""


def test_loading_a_network_does_not_wait_for_a_compiler(checkpoint):
    """torch imports one, and sympy with it, to fill a matrix on the meta device."""
    script = f"import sys, remask; model = remask.load({str(checkpoint)!r}); print('sympy' in sys.modules, 'torch._dynamo' in sys.modules, model.logits)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split()[:2] == ["False", "False"]


def test_no_family_waits_for_a_compiler_to_be_made_without_weights():
    script = """
import json, sys, torch
from remask.models.loading import FAMILIES, Unfilled
for config in json.load(sys.stdin):
    with torch.device("meta"), Unfilled():
        assert all(tensor.is_meta for tensor in FAMILIES[config["architectures"][0]](config).state_dict().values())
    print(config["architectures"][0], "sympy" in sys.modules or "torch._dynamo" in sys.modules)
"""
    configs = [*CONFIGS.values(), JUDGE]
    done = subprocess.run([sys.executable, "-c", script], input=json.dumps(configs), capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{config['architectures'][0]} False" for config in configs]
    assert {config["architectures"][0] for config in configs} == set(FAMILIES)


def test_importing_remask_loads_nothing_before_a_name_is_asked_for():
    script = "import sys, remask; print('torch' in sys.modules, remask.__version__); remask.Threshold(0.9); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0::2] == ["False", "True"]
