"""A server in a thread of the test process, on a free port, over a tiny random checkpoint that can spell and has a chat template."""

import json
import socket
import threading
import time
import urllib.request
from contextlib import contextmanager

import torch
import uvicorn

import remask
from remask.engine import Engine
from remask.server.app import create_app
from remask.server.service import Service
from remask.training.run import build
from remask.training.shards import write_json, write_shards
from remask.training.vocabulary import characters, write_tokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz .:\n0123456789"
TEMPLATE = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}assistant: "


def write_checkpoint(folder, *, scale=1.0, longest=256):
    """A random network over letters; `scale` sharpens its beliefs."""
    size = len(LETTERS) + 2
    config = {
        "architectures": ["LLaDAModelLM"], "d_model": 16, "n_layers": 1, "n_heads": 2, "mlp_hidden_size": 16, "vocab_size": size, "max_sequence_length": longest,
        "rope": True, "rope_theta": 10000.0, "rms_norm_eps": 1e-5, "mask_token_id": size - 1, "eos_token_id": size - 2,
    }  # fmt: skip
    write_json(folder / "config.json", config)
    torch.manual_seed(1)
    write_shards(folder, {name: tensor.detach() * scale for name, tensor in build(config, torch.device("cpu")).named_parameters()})
    write_tokenizer(characters(LETTERS), folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


@contextmanager
def serving(folder, *, engine=None, held=0, **settings):
    """The base address of a running server, and its service. held: the bytes that the system takes of an answer before anybody reads it, 0: as it likes, which is megabytes."""
    engine = engine or Engine(remask.load(folder), max_rows=16)
    service = Service(engine, **{"name": "tiny", **settings})
    server = uvicorn.Server(uvicorn.Config(create_app(service), log_level="error", timeout_graceful_shutdown=20))
    listening = socket.create_server(("127.0.0.1", 0))
    if held:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, held)  # connections have it from what they come in by
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", service
    finally:
        server.should_exit = True
        thread.join()


def post(address, path, body, headers=None):
    """Status and parsed answer of a POST; body: an object, or raw bytes."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(address + path, data, {"Content-Type": "application/json", **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())
