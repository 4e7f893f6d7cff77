"""The server under load on loopback: many clients at once, many requests, slow readers, kill -9. The figures of docs/findings/server.md.

    python benchmarks/server_load.py clients --clients 200 --requests 2000
    python benchmarks/server_load.py memory --requests 10000
    python benchmarks/server_load.py readers --slow 50 --clients 50
    python benchmarks/server_load.py restart --rounds 5

The server is the command `remask serve` in a process of its own, over a tiny random checkpoint that is written first: the figures are those of
the protocol and the engine's bookkeeping, not of a network.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from remask.training.run import build
from remask.training.shards import write_json, write_shards
from remask.training.vocabulary import characters, write_tokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz .:\n0123456789"
CONFIG = {
    "architectures": ["LLaDAModelLM"], "d_model": 16, "n_layers": 1, "n_heads": 2, "mlp_hidden_size": 16, "vocab_size": len(LETTERS) + 2, "max_sequence_length": 256,
    "rope": True, "rope_theta": 10000.0, "rms_norm_eps": 1e-5, "mask_token_id": len(LETTERS) + 1, "eos_token_id": len(LETTERS),
}  # fmt: skip
DECODERS = ("low_confidence:steps=8", "threshold:tau=0.1", "origin:steps=6", "p2:steps=6")


def write_checkpoint(folder: Path) -> None:
    """A random network over letters."""
    write_json(folder / "config.json", CONFIG)
    write_shards(folder, dict(build(CONFIG, torch.device("cpu")).named_parameters()))
    write_tokenizer(characters(LETTERS), folder)


def start(folder: Path, port: int = 0) -> tuple[subprocess.Popen[str], int]:
    """The server and its port."""
    command = [sys.executable, "-c", "from remask.cli import main; main()", "serve", "--model", str(folder), "--name", "tiny", "--port", str(port), "--queue", "4096"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert process.stderr is not None
    for line in process.stderr:
        if "running on" in line:
            return process, int(line.split("http://")[1].split(" ")[0].rsplit(":", 1)[1])
    raise SystemExit("the server did not start")


def resident(process: subprocess.Popen[str]) -> float:
    """Its memory in MB."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmRSS"))) / 1024


def body(rng: random.Random, **more: Any) -> bytes:
    """A short request: its own prompt, decoder and seed."""
    prompt = "".join(rng.choices(LETTERS[:26], k=rng.randint(3, 20)))
    return json.dumps({"prompt": prompt, "max_tokens": rng.randint(4, 16), "decoder": rng.choice(DECODERS), "temperature": 1, "seed": rng.randrange(1000), **more}).encode()


async def ask(port: int, data: bytes) -> tuple[int, bytes]:
    """Status and body of one request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data))
    await writer.drain()
    answer = await reader.read()
    writer.close()
    head, _, rest = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]) if head else 0, rest


async def clients(port: int, count: int, requests: int, rng: random.Random, **more: Any) -> tuple[Counter[int], list[float], dict[bytes, bytes]]:
    """So many clients that ask one after another; statuses (0: none), seconds, and the texts by request."""
    left = requests
    statuses: Counter[int] = Counter()
    seconds: list[float] = []
    texts: dict[bytes, bytes] = {}

    async def client() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            data, began = body(rng, **more), time.monotonic()
            try:
                status, answer = await ask(port, data)
            except OSError:
                status, answer = 0, b""
            seconds.append(time.monotonic() - began)
            statuses[status] += 1
            if status == 200 and not more:
                texts[data] = json.loads(answer)["choices"][0]["text"]

    await asyncio.gather(*(client() for _ in range(count)))
    return statuses, sorted(seconds), texts


def report(name: str, statuses: Counter[int], seconds: list[float], wall: float) -> None:
    """One line."""
    p50, p99 = seconds[len(seconds) // 2], seconds[int(len(seconds) * 0.99)]
    print(f"{name}: statuses {dict(statuses)}, {len(seconds) / wall:.0f} requests/s, latency p50 {p50:.3f} s, p99 {p99:.3f} s", flush=True)


def run_clients(port: int, process: subprocess.Popen[str], options: argparse.Namespace) -> None:
    """Many at once; then a hundred of the same requests alone, which must give the same texts."""
    began = time.monotonic()
    statuses, seconds, texts = asyncio.run(clients(port, options.clients, options.requests, random.Random(0)))
    report(f"{options.clients} clients", statuses, seconds, time.monotonic() - began)
    again = [json.loads(asyncio.run(ask(port, data))[1])["choices"][0]["text"] == text for data, text in list(texts.items())[:100]]
    print(f"the same alone: {sum(again)} of {len(again)} texts equal; memory {resident(process):.0f} MB")


def run_memory(port: int, process: subprocess.Popen[str], options: argparse.Namespace) -> None:
    """Memory after every tenth of the requests, which are short: one in ten is malformed, one in ten streams."""
    rng = random.Random(0)

    async def tenth(count: int) -> tuple[Counter[int], list[float]]:
        short = {"max_tokens": 2, "decoder": "threshold:tau=0.0"}
        kinds = ((count * 8 // 10, short), (count // 10, {**short, "stream": True, "include_canvas": True}), (count // 10, {"decoder": "sloth"}))
        found = await asyncio.gather(*(clients(port, 10, requests, rng, **more) for requests, more in kinds))
        return sum((statuses for statuses, _, _ in found), Counter()), sorted(value for _, seconds, _ in found for value in seconds)

    for number in range(1, 11):
        began = time.monotonic()
        statuses, seconds = asyncio.run(tenth(options.requests // 10))
        report(f"{number * options.requests // 10} requests, memory {resident(process):.1f} MB", statuses, seconds, time.monotonic() - began)


async def slow_reader(port: int, stop: asyncio.Event, host: str) -> None:
    """Asks for a long stream and takes nothing of it."""
    data = json.dumps({"prompt": "abc", "max_tokens": 200, "decoder": "low_confidence", "stream": True, "include_canvas": True}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024, local_addr=(host, 0))
    reader._transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data))
    await stop.wait()
    writer.close()


def run_readers(port: int, process: subprocess.Popen[str], options: argparse.Namespace) -> None:
    """Latency of other clients without slow readers, with some of the same address, and with some of another, who take turns with them."""

    async def beside() -> None:
        for slow, host in ((0, ""), (options.slow, "127.0.0.1"), (options.slow, "127.0.0.2")):
            stop, began = asyncio.Event(), time.monotonic()
            readers = [asyncio.create_task(slow_reader(port, stop, host)) for _ in range(slow)]
            await asyncio.sleep(0.5)
            statuses, seconds, _ = await clients(port, options.clients, options.requests, random.Random(0))
            report(f"beside {slow} slow readers {host}", statuses, seconds, time.monotonic() - began)
            stop.set()
            await asyncio.gather(*readers)
            await asyncio.sleep(5)

    asyncio.run(beside())
    print(f"memory {resident(process):.0f} MB")


def run_restart(folder: Path, options: argparse.Namespace) -> None:
    """Kill -9 while clients wait; the next process answers on the same port."""
    process, port = start(folder)
    data = body(random.Random(3))
    first = json.loads(asyncio.run(ask(port, data))[1])["choices"]

    async def killed() -> Counter[int]:
        asking = asyncio.create_task(clients(port, 50, 1000, random.Random(0)))
        await asyncio.sleep(0.5)
        process.send_signal(signal.SIGKILL)
        return (await asking)[0]

    for _ in range(options.rounds):
        statuses = asyncio.run(killed())
        process.wait()
        process, port = start(folder, port)
        same = json.loads(asyncio.run(ask(port, data))[1])["choices"] == first
        print(f"killed with 50 clients waiting: statuses {dict(statuses)}; the same answer afterwards: {same}", flush=True)
    process.terminate()
    process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("clients", "memory", "readers", "restart"))
    for name, value in (("clients", 200), ("requests", 2000), ("slow", 50), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        write_checkpoint(Path(name))
        if options.what == "restart":
            run_restart(Path(name), options)
            return
        process, port = start(Path(name))
        try:
            {"clients": run_clients, "memory": run_memory, "readers": run_readers}[options.what](port, process, options)
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
