"""One thread per test process: many small tensors, two cores, two workers. And the tiny checkpoint that commands are tried on."""

import os

import pytest
import torch

from remask.training.run import build
from remask.training.shards import write_json, write_shards
from remask.training.vocabulary import characters, write_tokenizer

torch.set_num_threads(1)
os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub is imported
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before a kernel's module is imported

CONFIG = {
    "architectures": ["LLaDAModelLM"], "d_model": 16, "n_layers": 1, "n_heads": 2, "mlp_hidden_size": 16, "vocab_size": 12, "max_sequence_length": 162,
    "rope": True, "rope_theta": 10000.0, "rms_norm_eps": 1e-5, "mask_token_id": 11, "eos_token_id": 10,
}  # fmt: skip


@pytest.fixture(autouse=True)
def subnormal_numbers():
    """Commands that run in this process flush them, for theirs; what hypothesis draws may hold some."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    write_json(folder / "config.json", CONFIG)
    write_shards(folder, dict(build(CONFIG, torch.device("cpu")).named_parameters()))
    write_tokenizer(characters("0123456789"), folder)
    return folder
