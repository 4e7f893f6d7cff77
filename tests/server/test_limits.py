"""What the server refuses, with which status and words, and what it survives: bodies without sense, slow and vanished clients, a full queue, shutdown, kill -9."""

import asyncio
import gc
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import pytest

import remask
from remask.engine import Engine
from remask.server import bridge
from remask.server.app import create_app
from remask.server.limits import Limits
from remask.server.service import Service
from remask.trace.file import read
from tests.server.serving import post, serving

BAD = {
    "no json": (b"{", 400, None),
    "no object": (b"[1]", 400, None),
    "not utf-8": (b'{"prompt": "\xff"}', 400, None),
    "nested too deep": (b"[" * 100_000, 400, None),
    "a number of too many digits": (b'{"prompt": "a", "seed": ' + b"9" * 5000 + b"}", 400, None),
    "half a surrogate pair": (b'{"prompt": "\\ud800"}', 400, "prompt"),
    "no prompt": ({}, 400, "prompt"),
    "empty prompt": ({"prompt": ""}, 400, "prompt"),
    "prompt of ids": ({"prompt": [1, 2]}, 400, "prompt"),
    "unknown field": ({"prompt": "a", "speed": 9}, 400, "speed"),
    "penalty": ({"prompt": "a", "frequency_penalty": 0.5}, 400, "frequency_penalty"),
    "logit bias": ({"prompt": "a", "logit_bias": {"1": 5}}, 400, "logit_bias"),
    "alternatives": ({"prompt": "a", "logprobs": 5}, 400, "logprobs"),
    "temperature below 0": ({"prompt": "a", "temperature": -1}, 400, "temperature"),
    "temperature nan": (b'{"prompt": "a", "temperature": NaN}', 400, "temperature"),
    "top_p 0": ({"prompt": "a", "top_p": 0}, 400, "top_p"),
    "n 0": ({"prompt": "a", "n": 0}, 400, "n"),
    "no tokens": ({"prompt": "a", "max_tokens": 0}, 400, "max_tokens"),
    "too many tokens": ({"prompt": "a", "max_tokens": 1000}, 400, "max_tokens"),
    "a suffix behind too many tokens": ({"prompt": "a", "suffix": "b", "max_tokens": 1 << 20}, 400, "max_tokens"),
    "blocks longer than memory": ({"prompt": "a", "window": "blocks:9999999"}, 400, "max_tokens"),
    "a number longer than sense": ({"prompt": "a", "window": "blocks:99999999"}, 400, "window"),
    "unknown decoder": ({"prompt": "a", "decoder": "sloth"}, 400, "decoder"),
    "decoder of nothing": ({"prompt": "a", "decoder": "threshold:tau=nan,tau=2"}, 400, "decoder"),
    "unknown window": ({"prompt": "a", "window": "wall"}, 400, "window"),
    "unknown reuse": ({"prompt": "a", "reuse": "recycle"}, 400, "reuse"),
    "a mask that was not asked for": ({"prompt": "a<|mask|>"}, 400, "prompt"),
    "infill without a gap": ({"prompt": "a", "infill": True}, 400, "prompt"),
    "infill with a suffix": ({"prompt": "a<|mask|>", "infill": True, "suffix": "b"}, 400, "suffix"),
    "a canvas without a stream": ({"prompt": "a", "include_canvas": True}, 400, "include_canvas"),
    "another model": ({"prompt": "a", "model": "gpt-4"}, 404, "model"),
    "a template of the client's": ({"prompt": "a", "chat_template": "{{ 7 * 7 }}"}, 400, "chat_template"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_body_is_refused_in_openai_s_shape_and_names_the_field(server, case):
    body, status, param = BAD[case]
    got, answer = post(server, "/v1/completions", body)
    assert got == status, answer
    assert answer["error"]["param"] == param
    assert answer["error"]["message"]


def test_a_body_may_not_name_a_file_of_the_server_and_cannot_tell_whether_there_is_one(server, tmp_path):
    (tmp_path / "counts.json").write_text("[1, 2, 3]")
    for spec in ("pc:background={}", "spaced:(pc:lam=0,background={})"):
        answers = [post(server, "/v1/completions", {"prompt": "a", "decoder": spec.format(tmp_path / name)}) for name in ("counts.json", "absent.json")]
        assert answers[0] == answers[1]
        assert answers[0][0] == 400
        assert "background of decoder 'pc' names a file" in answers[0][1]["error"]["message"]


def test_a_fraction_may_have_many_digits(server):
    assert post(server, "/v1/completions", {"prompt": "a", "max_tokens": 1, "decoder": "threshold:tau=0.123456789"})[0] == 200


def test_chats_without_sense_are_refused(server):
    message = {"role": "user", "content": "a"}
    for body in ({"messages": []}, {"messages": [{"role": "user"}]}, {"messages": [{**message, "content": None}]}, {"messages": [message], "tools": [{}]}):
        assert post(server, "/v1/chat/completions", body)[0] == 400
    assert post(server, "/v1/chat/completions", {"messages": [message], "response_format": {"type": "json_object"}})[0] == 400
    assert post(server, "/v1/chat/completions", {"messages": [message], "max_tokens": 3})[0] == 200


def test_text_of_a_client_is_never_run_as_a_template(server):
    plain, sneaky = ([{"role": "user", "content": content}] for content in ("49", "{{ 7 * 7 }}"))
    answers = [post(server, "/v1/chat/completions", {"messages": messages, "max_tokens": 4, "seed": 1})[1] for messages in (plain, sneaky)]
    assert answers[1]["usage"]["prompt_tokens"] == answers[0]["usage"]["prompt_tokens"] + len("{{ 7 * 7 }}") - len("49")


@pytest.mark.parametrize("path", ["/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/v1/models/..%2f..%2fetc%2fpasswd", "/static/../page.html", "/docs", "/redoc"])
def test_no_path_reaches_a_file(server, path):
    host, port = server.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as line:
        line.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: line.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 404"), answer[:200]
    assert b"root:" not in answer


def garbage(rng):
    """A body that is wrong somewhere, most of the time."""
    body = {"prompt": "abc", "max_tokens": 2}
    values = [None, True, -1, 0, 1e308, 10**30, "", "\x00", "a" * 300, [], {}, [[]], {"a": {}}, "blocks:0", "threshold:tau=(", "((((", "\u202e", 2**63, -(2**63), 0.1]
    names = ["prompt", "max_tokens", "temperature", "top_p", "n", "seed", "stop", "stream", "decoder", "window", "reuse", "infill", "suffix", "logprobs", "x", "model"]
    for _ in range(rng.randint(1, 3)):
        body[rng.choice(names)] = rng.choice(values)
    data = json.dumps(body).encode()
    if rng.random() < 0.4:
        place = rng.randrange(len(data))
        data = data[:place] + bytes(rng.randrange(256) for _ in range(rng.randint(0, 4))) + data[place + rng.randint(0, 4) :]
    return data


def test_malformed_bodies_are_never_a_defect_of_the_server(server):
    rng = random.Random(4)
    host, port = server.removeprefix("http://").split(":")
    seen = set()
    with socket.create_connection((host, int(port))) as line:
        stream = line.makefile("rb")
        for _ in range(1000):
            data = garbage(rng)
            path = rng.choice(["/v1/completions", "/v1/chat/completions"])
            line.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (path.encode(), len(data), data))
            status = int(stream.readline().split()[1])
            headers = dict(iter(lambda: tuple(stream.readline().decode().strip().lower().partition(": ")[::2]), ("", "")))
            if "content-length" in headers:
                stream.read(int(headers["content-length"]))
            else:
                while (size := int(stream.readline(), 16)) > 0:
                    stream.read(size + 2)
                stream.readline()
            seen.add(status)
            assert status < 500, data
    assert {200, 400} <= seen


def test_the_key_is_asked_for_everywhere_but_where_nothing_is_told(letters):
    with serving(letters, limits=Limits(api_keys=("other", "secret"))) as (address, _):
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "secret"}):
            status, answer = post(address, "/v1/completions", {"prompt": "a", "max_tokens": 1}, headers)
            assert (status, answer["error"]["code"]) == (401, "invalid_api_key")
        assert post(address, "/v1/completions", {"prompt": "a", "max_tokens": 1}, {"Authorization": "Bearer secret"})[0] == 200
        assert post(address, "/v1/completions", {"prompt": "a", "max_tokens": 1}, {"Authorization": "Bearer other"})[0] == 200
        for path, status in (("/", 200), ("/health", 200), ("/metrics", 401), ("/v1/models", 401), ("/v1/remask/parts", 401)):
            assert status_of(address + path) == status


def status_of(address):
    """The status of a GET."""
    try:
        return urllib.request.urlopen(address).status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize("told", [True, False])
def test_a_long_body_is_refused_whether_or_not_it_tells_its_length(letters, told):
    with serving(letters, limits=Limits(most_bytes=1000)) as (address, _):
        assert post(address, "/v1/completions", {"prompt": "a" * 900, "max_tokens": 1})[0] == 400
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as line:
            head = "Content-Length: 5000" if told else "Transfer-Encoding: chunked"
            line.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{head}\r\n\r\n".encode())
            if not told:
                line.sendall(b"7d0\r\n" + b"a" * 2000 + b"\r\n")
            assert line.recv(100).startswith(b"HTTP/1.1 413")


def test_a_body_that_never_comes_is_given_up(letters):
    with serving(letters, limits=Limits(patience=0.2)) as (address, _):
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as line:
            line.sendall(b'POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{"prompt"')
            assert line.recv(100).startswith(b"HTTP/1.1 408")


LONG = {"prompt": "abc", "max_tokens": 200, "decoder": "ancestral:steps=9999999"}
"""Keeps a row busy for longer than any test."""


def until(true, seconds=60.0):
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_gives_its_rows_back(letters, stream):
    with serving(letters) as (address, service):
        host, port = address.removeprefix("http://").split(":")
        body = json.dumps({**LONG, "n": 3, "stream": stream, "include_canvas": stream}).encode()
        with socket.create_connection((host, int(port))) as line:
            line.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            until(lambda: service.engine.running == 3)
        until(lambda: service.engine.running == 0)
        assert (service.engine.running, service.engine.waiting) == (0, 0)


@pytest.fixture
def uncollected():
    """What is left alone stays, as it may in a server for minutes."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
def test_a_reader_who_takes_nothing_holds_up_nobody_and_is_dropped(letters):
    with serving(letters, limits=Limits(patience=3.0), held=4096) as (address, service):
        host, port = address.removeprefix("http://").split(":")
        body = json.dumps({**LONG, "n": 8, "stream": True, "include_canvas": True}).encode()
        line = socket.socket()
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.connect((host, int(port)))
        line.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        until(lambda: service.engine.running == 8)
        assert post(address, "/v1/completions", {"prompt": "abc", "max_tokens": 5})[0] == 200
        until(lambda: service.engine.running == 0)
        line.close()


def test_a_reader_who_takes_not_even_the_head_of_a_stream_gives_his_rows_back(letters):
    """As behind an earlier answer on the same connection that he left unread: nothing of the stream was begun."""
    service = Service(Engine(remask.load(letters)), "tiny", limits=Limits(patience=0.1))
    body = json.dumps({**LONG, "n": 3, "stream": True}).encode()
    scope = {"type": "http", "method": "POST", "path": "/v1/completions", "query_string": b"", "headers": [(b"content-type", b"application/json")]}
    messages = [{"type": "http.request", "body": body}]

    async def receive():
        return messages.pop() if messages else await asyncio.Event().wait()

    async def send(_):
        await asyncio.Event().wait()

    asyncio.run(create_app(service)(scope, receive, send))
    assert service.engine.waiting == 3
    service.engine.step()
    assert (service.engine.running, service.engine.waiting) == (0, 0)


def test_a_stream_with_nothing_to_tell_says_that_it_lives(letters, monkeypatch):
    monkeypatch.setattr(bridge, "BEAT", 0.0)  # any wait is too long, so that the speed of the machine decides nothing
    with serving(letters) as (address, _):
        data = json.dumps({"prompt": "abc", "max_tokens": 200, "decoder": "ancestral:steps=200", "window": "whole", "stream": True}).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{address}/v1/completions", data, {"Content-Type": "application/json"})) as answer:
            assert b": still at work" in answer.read()


def test_a_full_queue_is_429_and_nothing_of_the_request_stays(letters):
    with serving(letters, engine=Engine(remask.load(letters), max_rows=1, queue=2)) as (address, service):
        first = threading.Thread(target=post, args=(address, "/v1/completions", {**LONG, "decoder": "ancestral:steps=400"}))
        first.start()
        until(lambda: service.engine.running == 1)
        status, answer = post(address, "/v1/completions", {"prompt": "a", "max_tokens": 1, "n": 4})
        assert (status, answer["error"]["code"]) == (429, "queue_full")
        first.join()
        assert post(address, "/v1/completions", {"prompt": "a", "max_tokens": 1})[0] == 200
        until(lambda: service.engine.running == service.engine.waiting == 0)


def ask(address, body, *, host="127.0.0.1", key=""):
    """Send a body from this address or with this key, and wait for the status in a thread; the list gets it."""
    found = []

    def send():
        line = http.client.HTTPConnection(address.removeprefix("http://"), source_address=(host, 0))
        line.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json", "Authorization": f"Bearer {key}"})
        found.append(line.getresponse().status)
        line.close()

    thread = threading.Thread(target=send)
    thread.start()
    return thread, found


@pytest.mark.parametrize("by", ["address", "key"])
def test_a_client_with_a_long_queue_does_not_keep_another_waiting(letters, by):
    one, other = ({"host": "127.0.0.2"}, {}) if by == "address" else ({"key": "a"}, {"key": "b"})
    keys = () if by == "address" else ("a", "b")
    with serving(letters, engine=Engine(remask.load(letters), max_rows=2, queue=100), limits=Limits(api_keys=keys)) as (address, service):
        greedy = [ask(address, {"prompt": "abc", "max_tokens": 60, "decoder": "ancestral:steps=60", "n": 8}, **one) for _ in range(8)]
        until(lambda: service.engine.waiting > 30)
        thread, status = ask(address, {"prompt": "abc", "max_tokens": 4}, **other)
        thread.join()
        assert status == [200]
        assert service.engine.waiting > 20, "the one that asked for 64 rows before is far from done"
        for thread, _ in greedy:
            thread.join()
        assert {status for _, (status,) in greedy} == {200, 429}, "half of the queue is for others"


@pytest.mark.parametrize("stream", [False, True])
def test_a_row_that_takes_too_long_is_a_timeout(letters, stream):
    with serving(letters, timeout=0.3) as (address, _):
        if not stream:
            status, answer = post(address, "/v1/completions", LONG)
            assert (status, answer["error"]["code"]) == (504, "timeout")
            return
        data = json.dumps({**LONG, "stream": True}).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{address}/v1/completions", data, {"Content-Type": "application/json"})) as answer:
            last = answer.read().decode().strip().split("\n\n")[-1]
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "timeout"


def test_metrics_count_what_was_served(letters):
    with serving(letters) as (address, _):
        answer = post(address, "/v1/completions", {"prompt": "abc", "max_tokens": 5, "n": 2})[1]
        post(address, "/v1/completions", {"prompt": ""})
        text = urllib.request.urlopen(f"{address}/metrics").read().decode()
        values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        assert float(values["remask_generated_tokens_total"]) == answer["usage"]["completion_tokens"]
        assert float(values["remask_forwards_total"]) == sum(answer["remask"]["forwards"])
        assert float(values['remask_requests_total{route="/v1/completions",status="200"}']) == 1
        assert float(values['remask_requests_total{route="/v1/completions",status="400"}']) == 1


def test_shutdown_finishes_what_runs(letters):
    found = []
    with serving(letters) as (address, service):
        body = {**LONG, "decoder": "ancestral:steps=300", "max_tokens": 100, "seed": 1}
        asking = threading.Thread(target=lambda: found.append(post(address, "/v1/completions", body)))
        asking.start()
        until(lambda: service.engine.running == 1)
    asking.join()
    assert found[0][0] == 200
    assert found[0][1]["remask"]["forwards"][0] > 100


def start_command(letters, port, *more):
    command = [sys.executable, "-c", "from remask.cli import main; main()", "serve", "--model", str(letters), "--name", "tiny", "--port", str(port), *more]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True)
    while "running on" not in (line := process.stderr.readline()):
        assert line, "the command ended"
    return process, line.split("http://")[1].split(" ")[0]


def test_the_command_serves_again_after_kill_9_and_ends_quietly_when_asked(letters, tmp_path):
    body = {"prompt": "abc", "max_tokens": 9, "seed": 1, "temperature": 1}
    process, where = start_command(letters, 0, "--trace", str(tmp_path / "traces"))
    answer = post(f"http://{where}", "/v1/completions", body)[1]
    first = answer["choices"]
    process.send_signal(signal.SIGKILL)
    process.wait()
    process, where = start_command(letters, int(where.rsplit(":", 1)[1]))
    assert post(f"http://{where}", "/v1/completions", body)[1]["choices"] == first
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) in (0, -signal.SIGTERM)
    assert "Traceback" not in process.stderr.read()
    assert read(tmp_path / "traces" / f"{answer['id']}.jsonl").events["0"][-1].done
