"""Where a network of states is worse than one of masks: what each part of a decode rests on, read from real text by itself.

    python benchmarks/dsl_cause.py --model mdlm=runs/continued/checkpoint --model dsl=runs/mixed/checkpoint --data runs/fiction_data --judge runs/judge/checkpoint

Rows are windows spread over the validation text. Printed for every network: the cross-entropy of masked tokens by the share that is masked; how many of the wrong tokens
in a text it would correct and of the right ones keep; whether the probability of its own token tells wrong from right (AUC, 15 % of a row wrong), for wrong tokens of any
kind and for those that the first network would have written itself, beside what a network sees that masks an eighth of the row at a time. Of a network of states
besides: its cross-entropy over SNR beside the exact posterior of one position alone, both bounds, corrections by the SNR that written tokens are shown at, and what a
judge makes of text that the SDE finishes from a real state of some SNR: where that cost rises, the walk is led astray.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

import remask
from remask.channel import localise, tilt
from remask.continuous import cross_entropies, diffusion_bound, log_linear, random_order_bound
from remask.evaluation.harness import environment
from remask.evaluation.text.judge import negative_log_likelihood
from remask.evaluation.text.revision import revise
from remask.training.data import read_stream

SHARES = (1.0, 0.9, 0.7, 0.5, 0.3, 0.1, 0.05)
SNRS = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 12.0, 16.0, 24.0, 32.0, 48.0)
SHOWN = (100.0, 24.0, 16.0, 12.0, 8.0)


def even_windows(stream: Tensor, rows: int, length: int) -> Tensor:
    """(rows, length) windows at even distances of a stream."""
    windows = len(stream) // length
    return torch.stack([stream[place * length : (place + 1) * length] for place in (k * windows // rows for k in range(rows))]).long()


@torch.inference_mode()
def masked(model: Any, rows: Tensor, share: float, batch: int) -> tuple[float, float]:
    """Nats a masked token and the share that the arg max has right: no more wrong tokens can be corrected than that. The same tokens are masked for every network."""
    count = max(1, round(share * rows.shape[1]))
    chosen = torch.rand(rows.shape, generator=torch.Generator().manual_seed(count)).argsort(1).argsort(1) < count
    found, right = list[Tensor](), list[Tensor]()
    for part, hidden in zip(rows.split(batch), chosen.split(batch), strict=True):
        logits = model.logits(part.masked_fill(hidden, model.mask_id)).cpu()[..., : model.mask_id]
        found.append(functional.cross_entropy(logits[hidden].float(), part[hidden], reduction="none"))
        right.append(logits[hidden].argmax(-1) == part[hidden])
    return float(torch.cat(found).mean()), float(torch.cat(right).double().mean())


def read_masked(model: Any, rows: Tensor, batch: int) -> str:
    """The line of all shares."""
    made = {share: masked(model, rows, share, batch) for share in SHARES}
    return ", ".join(f"{share:.0%} {cost:.3f} {right:.3f}" for share, (cost, right) in made.items())


def alone(codes: Tensor, prior: Tensor, tokens: Tensor, snr: float) -> tuple[float, float]:
    """Nats a token and the squared error of its mean code, from the exact posterior of a position that sees no other."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(*tokens.shape, codes.shape[1], dtype=torch.float64, generator=generator)
    log_probs = torch.log_softmax(tilt(localise(codes, tokens, torch.full(tokens.shape, snr, dtype=torch.float64), noise), codes) + prior.log(), dim=-1)
    return float(-log_probs.gather(-1, tokens[..., None]).mean()), float((codes[tokens] - log_probs.exp() @ codes).square().sum(-1).mean())


@torch.inference_mode()
def finished(model: Any, rows: Tensor, first: float, grid: tuple[float, ...], seed: int = 0) -> Tensor:
    """(B, L): the SDE's arg max where it starts from the real state of SNR `first` and walks on over the later points of the grid."""
    codes, generator = model.codes.double().cpu(), torch.Generator().manual_seed(seed)

    def normals() -> Tensor:
        return torch.randn(*rows.shape, codes.shape[1], dtype=torch.float64, generator=generator)

    z = localise(codes, rows, torch.full(rows.shape, first, dtype=torch.float64), normals())
    for here, there in pairwise((first, *(point for point in grid if point > first))):
        mean = torch.softmax(model.read(z).double().cpu(), dim=-1) @ codes
        z = z + (there - here) * mean + (there - here) ** 0.5 * normals()
    return model.read(z).argmax(-1).cpu()


def describe_states(model: Any, rows: Tensor, prior: Tensor, batch: int, points: int) -> list[str]:
    """The lines of a network of states: cross-entropy over SNR, bounds."""
    codes, few = model.codes.double().cpu(), rows[: max(1, len(rows) // 2)].to(model.device)
    curve = torch.cat([cross_entropies(model, part, snrs=SNRS) for part in few.split(batch)]).mean(0)
    grid = log_linear(points, 0.05, 75.0)
    errors = torch.tensor([alone(codes, prior, rows, snr)[1] for snr in grid], dtype=torch.float64)
    nats = {"random order": [random_order_bound(model, part, seed=number) for number, part in enumerate(few.split(batch))]}
    nats["diffusion"] = [diffusion_bound(model, part, grid=grid, seed=batch * number) for number, part in enumerate(few.split(batch))]
    means = {name: float(torch.cat(found).mean()) / rows.shape[1] for name, found in nats.items()}
    means["diffusion of one position alone"] = float(torch.trapezoid(errors, torch.tensor(grid, dtype=torch.float64))) / 2
    return [
        "SNR: network / one position alone: " + ", ".join(f"{snr:g} {cost:.2f}/{alone(codes, prior, rows, snr)[0]:.2f}" for snr, cost in zip(SNRS, curve.tolist(), strict=True)),
        "bounds: " + ", ".join(f"{name} {value:.3f}" for name, value in means.items()),
    ]


def revisions(model: Any, rows: Tensor, batch: int) -> list[str]:
    """Fix and keep rates and calibration error; a network of states is asked at several SNRs of what it is shown."""
    lines, states = list[str](), hasattr(model, "read")
    for snr in SHOWN if states else (0.0,):
        made = {share: revise(set_snr(model, snr), rows, share, batch=batch) for share in (0.05, 0.1, 0.3)}
        rates = ", ".join(f"{share:.0%} wrong: {float(one.fixed.mean()):.3f}/{float(one.kept.mean()):.3f}/{one.calibration:.3f}" for share, one in made.items())
        lines.append(f"fixed/kept/calibration error{f' shown at SNR {snr:g}' if states else ''}: {rates}")
    return lines


@torch.inference_mode()
def mistaken(writer: Any, rows: Tensor, share: float = 0.15, seed: int = 0) -> dict[str, tuple[Tensor, Tensor]]:
    """Rows with wrong tokens and where they are, by kind: any token but the true one, or drawn from what `writer` expects at these places, the true one aside."""
    generator = torch.Generator().manual_seed(seed)
    wrong = torch.rand(rows.shape, generator=generator) < share
    logits = writer.logits(rows.masked_fill(wrong, writer.mask_id)).cpu()[..., : writer.mask_id].float()
    law = torch.softmax(logits.scatter(-1, rows[..., None], float("-inf")), dim=-1)
    drawn = torch.multinomial(law.flatten(0, 1), 1, generator=generator).view_as(rows)
    other = (rows + torch.randint(1, writer.mask_id, rows.shape, generator=generator)) % writer.mask_id
    return {"any": (torch.where(wrong, other, rows), wrong), "its own": (torch.where(wrong, drawn, rows), wrong)}


def area(doubt: Tensor, wrong: Tensor) -> float:
    """The chance that a wrong token is doubted more than a right one."""
    ranks = doubt.flatten().double().argsort().argsort().double()
    bad, good = float(wrong.sum()), float((~wrong).sum())
    return (float(ranks[wrong.flatten()].sum()) - bad * (bad - 1) / 2) / (bad * good)


@torch.inference_mode()
def own_probability(model: Any, shown: Tensor, where: Tensor | None = None) -> Tensor:
    """(B, L) log-probability of the token that stands there, which is masked `where` told."""
    asked = shown if where is None else shown.masked_fill(where, model.mask_id)
    return torch.log_softmax(model.logits(asked).cpu()[..., : model.mask_id].double(), dim=-1).gather(-1, shown[..., None])[..., 0]


def doubts(model: Any, errors: Mapping[str, tuple[Tensor, Tensor]], passes: int = 8) -> list[str]:
    """How well wrong tokens are told from right ones: in one pass, at each SNR shown, and with every token masked in one of `passes`."""
    lines = list[str]()
    for kind, (shown, wrong) in errors.items():
        turn = torch.rand(shown.shape, generator=torch.Generator().manual_seed(1)).argsort(1) % passes
        hidden = sum((own_probability(model, shown, turn == k).masked_fill(turn != k, 0.0) for k in range(passes)), start=torch.zeros(shown.shape, dtype=torch.float64))
        seen = {snr: area(-own_probability(set_snr(model, snr), shown), wrong) for snr in (SHOWN if hasattr(model, "read") else (0.0,))}
        lines.append(f"errors, {kind}: AUC " + ", ".join(f"SNR {snr:g} {value:.3f}" for snr, value in seen.items()) + f", masked an eighth at a time {area(-hidden, wrong):.3f}")
    return lines


def set_snr(model: Any, snr: float) -> Any:
    """The network itself, from now on showing written tokens at this SNR if it has one."""
    if hasattr(model, "read"):
        model.snr_max = snr
    return model


def walks(model: Any, judge: Any, rows: Tensor, firsts: Sequence[float], points: int, batch: int) -> list[str]:
    """What the judge makes of real states of these SNRs, finished by the SDE."""
    grid = log_linear(points, 0.5, 75.0)
    lines = [f"the text itself: {float(negative_log_likelihood(judge, rows).mean()):.3f} nats under the judge"]
    for snr in firsts:
        made = torch.cat([finished(model, part, snr, grid, seed=number) for number, part in enumerate(rows.split(batch))])
        right = float((made == rows).float().mean())
        lines.append(f"finished from SNR {snr:g}: {float(negative_log_likelihood(judge, made).mean()):.3f} nats, {right:.1%} of the tokens as they were")
    return lines


def main(arguments: Sequence[str] | None = None) -> list[str]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", required=True, help="name=folder; may be given many times")
    parser.add_argument("--data", type=Path, required=True, help="the folder that recipes/fiction.py prepared")
    parser.add_argument("--judge", default="", help="to let the SDE finish real states")
    parser.add_argument("--finish", type=float, nargs="*", default=[2.0, 4.0, 6.0, 8.0, 12.0, 16.0], help="their SNRs")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--points", type=int, default=60, help="of the diffusion bound and of the SDE's grid")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    chosen = parser.parse_args(arguments)
    judge: Any = remask.load(chosen.judge, device=chosen.device, dtype=chosen.dtype) if chosen.judge else None
    stream = read_stream(chosen.data / "fiction_valid.xz")
    rows = even_windows(stream, chosen.rows, chosen.length)
    lines, errors = [f"{len(rows)} windows of {chosen.length}"], dict[str, tuple[Tensor, Tensor]]()
    for name, _, folder in (text.partition("=") for text in chosen.model):
        model: Any = remask.load(folder, device=chosen.device, dtype=chosen.dtype)
        own = [f"{name}: {environment(model)}", "masked, nats and share right: " + read_masked(model, rows, chosen.batch)]
        few = rows[: max(1, len(rows) // 2)]
        errors = errors or mistaken(model, few)
        trained = getattr(model, "snr_max", 0.0)
        own += [*revisions(model, few, chosen.batch), *doubts(model, errors)]
        set_snr(model, trained)
        if hasattr(model, "read"):
            shares = torch.bincount(stream.long(), minlength=model.mask_id)[: model.mask_id].double() + 0.1
            own += describe_states(model, rows, shares / shares.sum(), chosen.batch, chosen.points)
            own += walks(model, judge, rows, chosen.finish, chosen.points, chosen.batch) if judge else []
        print("\n".join(own), flush=True)
        lines += own
    return lines


if __name__ == "__main__":
    main()
