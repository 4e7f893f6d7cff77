"""The wheel works where the checkout is not: an environment with the dependencies and nothing of ours."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PUZZLE = "013009480000000605000700091400000500090065000070300010040000050006000300500200004"


@pytest.fixture(scope="module")
def remask_command(tmp_path_factory):
    """A runner of `python -m remask.cli` style commands in the new environment, outside the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    venv.create(folder / "env", with_pip=False)
    site = next((folder / "env" / "lib").glob("python*")) / "site-packages"
    wheel = next(folder.glob("*.whl"))
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site), str(wheel)], check=True, capture_output=True)
    about = next(site.glob("remask-*.dist-info"))
    assert "License-Expression: Apache-2.0" in (about / "METADATA").read_text()
    assert (about / "licenses" / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(folder / "env" / "bin" / "python"), "-c", "from remask.cli import main; main()", *arguments]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False, env=environment)

    return run


def test_the_wheel_decodes(remask_command):
    done = remask_command("generate", PUZZLE, "--model", str(ROOT / "checkpoints" / "sudoku"), "--max-new-tokens", "81", "--decoder", "threshold:tau=0.9")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.strip()) == 81
    assert set(done.stdout.strip()) == set("123456789")


PROBLEM = "We counted 18 pencils for Ann. There are 80 pencils with Hugo. Sam has the pencils of Hugo added to those of Ann. What is the number of pencils of Sam?"


def test_the_wheel_holds_the_demo_checkpoint(remask_command):
    done = remask_command("generate", PROBLEM, "--max-new-tokens", "40", "--decoder", "threshold:tau=0.9")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("#### 098")


def test_outside_a_checkout_a_shipped_name_says_what_to_pass(remask_command):
    done = remask_command("generate", "1", "--model", "sudoku")
    assert done.returncode == 2
    assert "'sudoku'" in done.stderr
    assert "checkpoints/ of a checkout" in done.stderr
