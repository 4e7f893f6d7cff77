"""Lines through a local Ray cluster of two workers give what one engine gives."""

import json

import pytest

import remask
from remask.batch import Settings, run
from remask.batch.cluster import Worker, through_ray
from remask.batch.run import through
from remask.engine import Engine
from remask.models.fused_model import FusedModel
from remask.trace.file import TraceFile, read
from tests.batch.test_batch import complete, many, overtaken, write

ray = pytest.importorskip("ray", reason="the extra `ray` is not installed: pip install 'remask[ray]'")


@pytest.fixture(scope="module")
def cluster():
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()


@pytest.mark.usefixtures("cluster")
def test_two_workers_complete_what_one_engine_completes(checkpoint, tmp_path):
    settings = Settings(decoder="threshold:tau=0.3")
    source = write(tmp_path / "in.jsonl", [*many(12), {"prompt": "1", "decoder": "sloth"}])
    complete(source, tmp_path / "alone.jsonl", remask.load(checkpoint), settings)
    assert run(source, tmp_path / "ray.jsonl", settings, lambda lines: through_ray(lines, settings, model=str(checkpoint), rows=1)) == 1
    assert (tmp_path / "ray.jsonl").read_bytes() == (tmp_path / "alone.jsonl").read_bytes()


@pytest.mark.usefixtures("cluster")
def test_workers_decode_with_the_files_as_the_run_noted_them(checkpoint, tmp_path):
    alone = overtaken(tmp_path, tmp_path / "alone.jsonl", lambda lines, settings: through(Engine(remask.load(checkpoint)), lines, settings))
    spread = overtaken(tmp_path, tmp_path / "ray.jsonl", lambda lines, settings: through_ray(lines, settings, model=str(checkpoint), rows=1))
    assert spread == alone
    assert ["error" in record for record in spread] == [False, False, True, False]


@pytest.mark.usefixtures("cluster")
def test_workers_hand_back_the_trace_of_what_they_wrote(checkpoint, tmp_path):
    settings = Settings(decoder="threshold:tau=0.3")
    source = write(tmp_path / "in.jsonl", many(12))
    found = {}
    for name in ("alone", "ray"):
        with TraceFile(tmp_path / f"{name}-trace.jsonl", remask.load(checkpoint).tokenizer if name == "alone" else None) as trace:
            if name == "alone":
                run(source, tmp_path / "alone.jsonl", settings, lambda lines, to=trace: through(Engine(remask.load(checkpoint), max_rows=1), lines, settings, trace=to))
            else:
                run(source, tmp_path / "ray.jsonl", settings, lambda lines, to=trace: through_ray(lines, settings, model=str(checkpoint), rows=1, trace=to))
        found[name] = read(tmp_path / f"{name}-trace.jsonl")
    assert found["ray"].openings == found["alone"].openings
    assert found["ray"].events == found["alone"].events
    assert found["ray"].pieces == found["alone"].pieces


@pytest.mark.parametrize("fused", [False, True])
def test_a_worker_has_fused_layers_if_asked(fused, checkpoint):
    settings = Settings(max_new_tokens=4)
    worker = Worker(str(checkpoint), {"fused": fused}, settings, {"max_rows": 2}, traced=False)
    assert isinstance(worker.engine.model, FusedModel) == fused
    assert json.loads(worker({"index": [0], "text": [b'{"prompt": "12"}']})["record"][0])["reason"] == "length"
