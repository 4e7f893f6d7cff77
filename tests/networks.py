"""Tiny random networks of every family, with weights large enough for attention to matter."""

import torch

import remask
from remask.models.dream import Dream
from remask.models.dsl import DSL
from remask.models.llada import LLaDA
from remask.models.mdlm import MDLM

KINDS = {"LLaDAModelLM": LLaDA, "DreamModel": Dream, "MDLM": MDLM, "DSL": DSL}
ROTARY = {
    "architectures": ["LLaDAModelLM"], "d_model": 32, "n_layers": 3, "n_heads": 4, "mlp_hidden_size": 48, "vocab_size": 20, "max_sequence_length": 64,
    "rope": True, "rope_theta": 10000.0, "rms_norm_eps": 1e-5, "mask_token_id": 19, "eos_token_id": 18,
}  # fmt: skip
CONFIGS = {
    "llada": ROTARY,
    "grouped": {**ROTARY, "n_kv_heads": 2},
    "positions": {**ROTARY, "rope": False},
    "dream": {
        "architectures": ["DreamModel"], "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
        "vocab_size": 20, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "mask_token_id": 19, "eos_token_id": 18, "max_position_embeddings": 64,
    },
    "mdlm": {"architectures": ["MDLM"], "hidden_dim": 32, "n_blocks": 3, "n_heads": 4, "cond_dim": 16, "vocab_size": 20, "model_length": 64, "time_conditioning": False},
    "timed": {"architectures": ["MDLM"], "hidden_dim": 32, "n_blocks": 3, "n_heads": 4, "cond_dim": 16, "vocab_size": 20, "model_length": 64, "time_conditioning": True},
    "dsl": {"architectures": ["DSL"], "hidden_dim": 32, "n_blocks": 3, "n_heads": 4, "cond_dim": 16, "vocab_size": 20, "model_length": 64, "code_dim": 8},
}  # fmt: skip


def network(family, seed=0, **changes):
    """A float32 network in evaluation mode."""
    config = {**CONFIGS[family], **changes}
    model = KINDS[config["architectures"][0]](config).eval()
    model.config = config
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * (0.3 if parameter.dim() > 1 else 0.1) + (parameter.dim() == 1) * 1.0)
    if hasattr(model, "_folded"):
        model._folded = None
    return model


def canvas(prompts=((3, 1, 4), (1, 5, 9, 2, 6), (5,)), new=12):
    """Three rows of different length."""
    return remask.Canvas.from_prompts([list(row) for row in prompts], max_new_tokens=new, mask_id=19)
