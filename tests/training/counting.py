"""A recipe whose batches and masks depend on the step and the row alone, to be run in processes of its own: `python -m tests.training.counting OUT STEPS SAVE_EVERY`."""

import os
import sys
from pathlib import Path

import torch

from remask.training.data import Batch
from remask.training.run import Recipe, Run, train
from remask.training.vocabulary import characters, write_tokenizer

ROWS = 16
CONFIG = {
    "architectures": ["LLaDAModelLM"], "d_model": 32, "n_layers": 1, "n_heads": 4, "mlp_hidden_size": 48, "vocab_size": 12, "max_sequence_length": 16,
    "rope": True, "rope_theta": 10000.0, "rms_norm_eps": 1e-5, "mask_token_id": 11, "eos_token_id": 10,
}  # fmt: skip


class Share:
    """This process's share of the rows of a step."""

    def __init__(self, stream: int, size: int) -> None:
        self.rows = torch.arange(ROWS).chunk(size)[stream % size]

    def batch(self, step: int) -> Batch:
        start = (self.rows * 7 + step * 3) % 10
        tokens = (start[:, None] + torch.arange(8)) % 10
        return Batch(tokens, (torch.arange(8) > 0).expand(len(tokens), -1))


def corrupt(batch: Batch, generator: torch.Generator):
    """Half of each row is masked, which half depends on its first token."""
    masked = batch.eligible & ((torch.arange(8) + batch.tokens[:, :1]) % 2 == 0)
    return masked, torch.full((len(masked),), 0.5)


def recipe(steps: int, save_every: int = 10**6) -> Recipe:
    return Recipe(
        name="counting",
        config=CONFIG,
        source=lambda device, stream, size: Share(stream, size),
        corrupt=corrupt,
        write_tokenizer=lambda folder: write_tokenizer(characters("0123456789"), folder),
        steps=steps,
        warmup=2,
        decay=0.9,
        save_every=save_every,
    )


def first_gradients(run: Run) -> dict[str, torch.Tensor]:
    """Three steps; the gradients of the first, before they are clipped."""
    found: dict[str, torch.Tensor] = {}
    clip = run.clip

    def keep() -> None:
        if not found:
            found.update({name: parameter.grad.clone() for name, parameter in run.model.named_parameters() if parameter.grad is not None})
        clip()

    run.clip = keep
    for batch in run.batches(3):
        run.learn(batch)
    return found


def take_part(folder: Path) -> None:
    """A few steps as one of several processes; each leaves its own weights and its first gradients."""
    run = Run(recipe(3), folder, init=None, device="cpu", compiled=False)
    gradients = first_gradients(run)
    torch.save({"weights": dict(run.model.named_parameters()), "gradients": gradients}, folder / f"rank{run.world.rank}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    out, steps, save_every = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    if "RANK" in os.environ:
        take_part(out)
    train(recipe(steps, save_every), out, compiled=False, every=4)
    if "RANK" in os.environ:
        torch.distributed.destroy_process_group()
