"""What the page on speed shows runs, on a CPU and tiny networks: its Python, its torchrun script over two processes, and the options of its commands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.test_tutorial import parsed
from tests.server.serving import write_checkpoint

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "fast.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE)
EXAMPLES = [block for kind, block in BLOCKS if kind == "python" and "torch.distributed" not in block]
SCRIPT, LARGER = [block for kind, block in BLOCKS if kind == "python" and "torch.distributed" in block]
COMMANDS = [line.split() for kind, block in BLOCKS if kind == "sh" for line in block.strip().splitlines()]


@pytest.mark.parametrize("code", EXAMPLES)
def test_examples_run(code, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    exec(compile(code.replace('device="cuda"', 'device="cpu"'), "fast.md", "exec"), {"__name__": "example"})
    said = capsys.readouterr().out.splitlines()
    assert "#### 025" in said[0]
    assert all(line.endswith("forwards") for line in said)


def test_the_script_runs_over_two_processes(tmp_path):
    (tmp_path / "LLaDA-8B-Instruct").mkdir()
    write_checkpoint(tmp_path / "LLaDA-8B-Instruct")
    code = SCRIPT
    for there, here in (('device="cuda"', 'device="cpu"'), ('"nccl"', '"gloo"'), ('torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))', "torch.set_num_threads(1)")):
        assert there in code
        code = code.replace(there, here)
    larger = LARGER.replace('"cuda"', '"cpu"')
    assert larger != LARGER
    code = code.replace("del fast\n", f"{larger}assert model.processes == 2\ndel fast\n")
    assert larger in code
    end = "torch.distributed.destroy_process_group()"
    assert end in code
    code = code.replace(end, f"assert not any(type(thing) is remask.Captured for thing in gc.get_objects())\n{end}")
    (tmp_path / "split.py").write_text(code, encoding="utf-8")
    ((_, *words),) = [words for words in COMMANDS if words[0] == "torchrun"]
    done = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", *words], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^\d+ forwards:", done.stdout, flags=re.MULTILINE)) == 1


def test_its_commands_have_their_options():
    pytest.importorskip("ray.serve", reason="the extra `ray` is not installed")
    from remask.server import replicas

    own = [words for words in COMMANDS if words[0] == "remask"]
    assert len(own) == 3
    for words in own:
        parsed(words)
    ((_, _, place, *settings),) = [words for words in COMMANDS if words[0] == "serve"]
    module, _, name = place.partition(":")
    assert module == replicas.__name__
    assert hasattr(replicas, name)
    assert set(dict(setting.split("=") for setting in settings)) <= set(replicas.Options.model_fields)
