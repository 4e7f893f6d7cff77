"""Two replicas behind Ray Serve answer as one server does."""

import socket

import pytest

pytest.importorskip("ray.serve", reason="ray with Serve is not installed (the extra `ray`)", exc_type=ImportError)

from ray import serve

import remask
from remask.models.fused_model import FusedModel
from remask.server import replicas
from remask.server.replicas import Options, application, replica
from tests.server.serving import post


@pytest.fixture
def address(letters, monkeypatch):
    import ray

    for name in ("PROXY_READY_CHECK_TIMEOUT_S", "PROXY_HEALTH_CHECK_TIMEOUT_S", "PROXY_HEALTH_CHECK_PERIOD_S"):
        monkeypatch.setenv(f"RAY_SERVE_{name}", "300")  # a busy machine is slow to start processes

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(application(Options(model=str(letters), name="tiny", replicas=2)))
        yield f"http://127.0.0.1:{port}"
    finally:
        serve.shutdown()
        ray.shutdown()


def test_replicas_answer_as_the_library_does(address, letters):
    made = remask.generate(remask.load(letters), ["abc"], max_new_tokens=9, seed=1, shapers=(remask.Temperature(1.0),))[0]
    for _ in range(6):
        status, answer = post(address, "/v1/completions", {"prompt": "abc", "max_tokens": 9, "seed": 1, "temperature": 1})
        assert (status, answer["choices"][0]["text"]) == (200, made.text)
    assert post(address, "/v1/completions", {"prompt": ""})[0] == 400


@pytest.mark.parametrize("fused", [False, True])
def test_a_replica_has_fused_layers_if_asked(fused, letters, monkeypatch):
    made = []
    engine = replicas.Engine
    monkeypatch.setattr(replicas, "Engine", lambda network, **options: made.append(network) or engine(network, **options))
    replica(Options(model=str(letters), fused=fused))
    assert [isinstance(network, FusedModel) for network in made] == [fused]
