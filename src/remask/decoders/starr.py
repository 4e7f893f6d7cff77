"""STaRR, our reconstruction after STaRR (arXiv 2601.04205): a threshold per token and step, lower where confidence has settled.

The paper's formulas are not public to us. What follows keeps what its abstracts say: two signals of how a token's
confidence evolves, over steps (temporal variance) and among neighbours (spatial deviance), set the threshold at which a
candidate is written; what is below waits. Nothing that was written is taken back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from remask.canvas import Canvas, Edit
from remask.citation import Paper
from remask.decoders.base import Decoder, View
from remask.decoders.select import top
from remask.errors import RemaskError

PAPER = Paper("STaRR: Spatial-Temporal Token-Dynamics-Aware Responsive Remasking", "2601.04205", 2026)

FLOOR = 1e-3
"""The least denominator of the quantile norm."""


@dataclass(frozen=True, eq=False)
class Trace:
    """What is remembered, reset where the open block changes. L positions, W steps, newest first.

    history: (B, L, W) float32, the candidate's confidence.  seen: (B, L) int64, entries that count.  candidate: (B, L), -1
    where none.  span: (B, L) bool, the block.  written: (B, L) confidence at which a position was written.  streak, waited:
    (B, L) int64, steps in a row above the threshold, and steps spent masked.  tops, ids: (B, L, W, K) or None, the K likeliest
    tokens' probabilities and ids (signals=distribution).
    """

    history: Tensor
    seen: Tensor
    candidate: Tensor
    span: Tensor
    written: Tensor
    streak: Tensor
    waited: Tensor
    tops: Tensor | None = None
    ids: Tensor | None = None


@dataclass(frozen=True)
class STaRR(Decoder):
    """Our reconstruction after STaRR. Write what reaches tau = c_slow + (c_fast - c_slow) u^p; if nothing does, the best.

    u in [0, 1] is instability: `lam` parts temporal (deviation of the last `window` confidences over `sigma`) and the rest
    spatial (deviation from the masked neighbours within `radius` over `delta`); an infinite sigma or delta leaves its part out. Until a candidate was seen `min_history` times,
    tau is c_fast, which is Fast-dLLM's static threshold; so it is with c_slow = c_fast, p = 0 or window = 1.

    signals: confidence, or distribution (deviation of the `top` likeliest tokens' probabilities; one minus the cosine with the
    neighbours' mean distribution).  spatial: abs, neg (only below the neighbours), pos (only above), z (over their deviation), cos (as in
    signals=distribution), off.  temporal_source: the candidate's probability, or its logit, which wants another sigma.  metric: std or var.
    detrend: none, diff, line; the last two need three entries.  norm: ref, or quantile (of the row's masked positions, at p).
    combine: sum or max.  neighbours: masked, commit_conf (written ones count with the confidence they were written at), one (with 1).
    fallback: argmax_c, argmax_margin (to the threshold), or topk (the `at_least` most confident).
    reading: H1, these bounds; H2, c_fast and c_slow multiply tau_base for the calm and the other tokens (calm: deviation at most
    the row's p-quantile); H3, written after `fast_steps` steps above the threshold, and at c_slow after `slow_steps` masked.
    """

    unbounded: ClassVar[tuple[str, ...]] = ("sigma", "delta")
    c_fast: float = 0.9
    c_slow: float = 0.6
    window: int = 3
    radius: int = 2
    p: float = 1.0
    lam: float = 0.5
    sigma: float = 0.1
    delta: float = 0.3
    min_history: int = 2
    signals: Literal["confidence", "distribution"] = "confidence"
    spatial: Literal["abs", "neg", "pos", "off", "z", "cos"] = "abs"
    temporal: Literal["on", "off"] = "on"
    temporal_source: Literal["prob", "logit"] = "prob"
    metric: Literal["std", "var"] = "std"
    detrend: Literal["none", "diff", "line"] = "none"
    norm: Literal["ref", "quantile"] = "ref"
    combine: Literal["sum", "max"] = "sum"
    tau_max: float | None = None
    reading: Literal["H1", "H2", "H3"] = "H1"
    tau_base: float = 0.9
    fast_steps: int = 1
    slow_steps: int | None = None
    neighbours: Literal["masked", "commit_conf", "one"] = "masked"
    fallback: Literal["argmax_c", "argmax_margin", "topk"] = "argmax_c"
    at_least: int = 1
    reset_on_flip: bool = True
    carry_history: bool = False
    eos_static: bool = False
    top: int = 16
    mask_candidates: bool = False
    papers: ClassVar[tuple[Paper, ...]] = (PAPER,)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reading != "H2" and not 0 <= self.c_slow <= self.c_fast:
            raise RemaskError(f"c_slow={self.c_slow}, c_fast={self.c_fast}: write 0 <= c_slow <= c_fast")
        for name in ("window", "radius", "min_history", "fast_steps", "at_least", "top"):
            if getattr(self, name) < 1:
                raise RemaskError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if not self.p >= 0 or not 0 <= self.lam <= 1 or not self.sigma > 0 or not self.delta > 0:
            raise RemaskError(f"p={self.p}, lam={self.lam}, sigma={self.sigma}, delta={self.delta}: p from 0, lam from 0 to 1, sigma and delta above 0")
        if self.tau_max is not None and self.tau_max < self.c_fast:
            raise RemaskError(f"tau_max is {self.tau_max}; it must be at least c_fast={self.c_fast}")
        if self.norm == "quantile" and self.p > 1:
            raise RemaskError(f"p is {self.p}; with norm=quantile it is a quantile, from 0 to 1")

    @property
    def by_distribution(self) -> bool:
        """Whether distributions are kept, not just their largest probabilities."""
        return self.signals == "distribution" or self.spatial == "cos"

    @property
    def everywhere(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Written neighbours count with their distributions too."""
        return self.by_distribution and self.neighbours != "masked"

    def init(self, canvas: Canvas) -> Trace:
        zero, shape = torch.zeros_like(canvas.tokens), (*canvas.shape, self.window)
        none = torch.zeros(canvas.shape, device=canvas.tokens.device)
        return Trace(
            none[..., None].expand(shape), zero, zero - 1, torch.zeros_like(canvas.given), none, zero, zero,
            none[..., None, None].expand(*shape, self.top) if self.by_distribution else None,
            zero[..., None, None].expand(*shape, self.top) if self.by_distribution else None,
        )  # fmt: skip

    def step(self, view: View, state: Trace) -> tuple[Edit, Trace]:
        belief, masked = view.prediction.raw, view.eligible
        confidence, candidate = belief.confidence, belief.token
        state = self.remember(view, state, confidence if self.temporal_source == "prob" else belief.height, candidate)
        calm = self.temporal_signal(state)
        apart = self.spatial_signal(state, confidence, masked, view)
        tau = self.threshold(calm, apart, state, masked)
        if self.eos_static and view.eos_ids:
            ends = torch.stack([candidate == end for end in view.eos_ids]).any(0)
            tau = torch.where(ends, self.static, tau)
        reached = confidence >= tau
        streak = torch.where(reached & masked, state.streak + 1, 0)
        write = masked & reached & (streak >= self.fast_steps if self.reading == "H3" else True)
        rank = confidence - tau if self.fallback == "argmax_margin" else confidence
        best = top(rank, masked, self.at_least if self.fallback == "topk" else 1)
        write = torch.where(write.any(1, keepdim=True), write, best)
        if self.fallback == "topk":
            write = write | best
        written = torch.where(write, confidence, state.written)
        return Edit(write, view.prediction.candidates), Trace(
            state.history, state.seen, state.candidate, state.span, written, streak, torch.where(masked, state.waited + 1, 0), state.tops, state.ids
        )

    @property
    def static(self) -> float:
        """The threshold of a token without history."""
        return self.tau_base if self.reading == "H2" else self.c_fast

    def remember(self, view: View, state: Trace, value: Tensor, candidate: Tensor) -> Trace:
        """The trace with this step's values (B, L) of the candidates in front."""
        masked = view.eligible
        new = (view.span != state.span).any(1, keepdim=True)
        if self.carry_history:
            new = torch.zeros_like(new)
        seen, last = torch.where(new, 0, state.seen), torch.where(new, -1, state.candidate)
        if self.reset_on_flip:
            seen = torch.where((last >= 0) & (candidate != last), 0, seen)
        history = torch.cat([value[..., None], state.history[..., :-1]], dim=-1)
        tops, ids = state.tops, state.ids
        if tops is not None and ids is not None:
            chances, tokens = view.prediction.raw.likeliest(self.top)
            room = self.top - chances.shape[-1]
            tops = torch.cat([functional.pad(chances, (0, room))[:, :, None], tops[:, :, :-1]], dim=2)
            ids = torch.cat([functional.pad(tokens, (0, room), value=-1)[:, :, None], ids[:, :, :-1]], dim=2)
        return Trace(
            history, torch.where(masked, (seen + 1).clamp(max=self.window), 0), torch.where(masked, candidate, -1), view.span, state.written,
            torch.where(new, 0, state.streak), torch.where(new, 0, state.waited), tops, ids,
        )  # fmt: skip

    def temporal_signal(self, state: Trace) -> Tensor:
        """(B, L): the variance of what is remembered, or its square root (metric=std)."""
        age = torch.arange(self.window, device=state.seen.device)
        counts = (age < state.seen[..., None]).double()
        if self.signals == "confidence" or state.tops is None or state.ids is None:
            variance = detrended_variance(state.history.double(), counts, self.detrend)
        else:
            # the probabilities over steps of the tokens that are likeliest now; one that was not kept counts as 0
            now = state.ids[:, :, :1, :]
            match = state.ids[..., :, None] == now[..., None, :]
            over = (state.tops[..., :, None] * match).sum(3).double()
            variance = detrended_variance(over.transpose(2, 3), counts[:, :, None, :].expand(-1, -1, over.shape[3], -1), self.detrend).sum(-1)
        return variance.float() if self.metric == "var" else variance.sqrt().float()

    def spatial_signal(self, state: Trace, confidence: Tensor, masked: Tensor, view: View) -> Tensor:
        """(B, L): the deviation from the neighbours within the open block; 0 without neighbours."""
        if self.spatial == "off":
            return torch.zeros_like(confidence)
        value, counted = confidence, masked
        if self.neighbours != "masked":
            others = view.span & ~masked & (view.filled | (self.neighbours == "one"))
            value = torch.where(others, state.written if self.neighbours == "commit_conf" else torch.ones_like(confidence), confidence)
            counted = masked | others
        if state.tops is not None and state.ids is not None:
            return self.dissimilarity(state.tops[:, :, 0], state.ids[:, :, 0], counted)
        weight = counted.double()
        wide = torch.where(counted, value, 0).double()
        number = beside(weight, self.radius)
        mean = beside(wide, self.radius) / number.clamp(min=1)
        gap = confidence - mean
        if self.spatial == "z":
            variance = (beside(wide.square(), self.radius) / number.clamp(min=1) - mean.square()).clamp(min=0)
            gap = gap.abs() / (variance.sqrt() + FLOOR)
        elif self.spatial == "abs":
            gap = gap.abs()
        else:
            gap = (gap if self.spatial == "pos" else -gap).clamp(min=0)
        return torch.where(number > 0, gap, 0).float()

    def dissimilarity(self, tops: Tensor, ids: Tensor, counted: Tensor) -> Tensor:
        """(B, L): one minus the cosine of a distribution's likeliest tokens with the mean of its neighbours' ones."""
        length = tops.shape[1]
        product, together, number = torch.zeros_like(tops[..., 0]), torch.zeros_like(tops[..., 0]), torch.zeros_like(tops[..., 0])
        place = torch.arange(length, device=tops.device)
        around = [step for step in range(-self.radius, self.radius + 1) if step]
        near = [((place + step).clamp(0, length - 1), (place + step >= 0) & (place + step < length)) for step in around]

        def dot(first: Tensor, first_ids: Tensor, second: Tensor, second_ids: Tensor) -> Tensor:
            return (first[..., :, None] * second[..., None, :] * (first_ids[..., :, None] == second_ids[..., None, :])).sum((-1, -2))

        for one, inside in near:
            counts = counted[:, one] & inside
            product = product + torch.where(counts, dot(tops, ids, tops[:, one], ids[:, one]), 0)
            number = number + counts
            for other, also in near:
                both = counts & counted[:, other] & also
                together = together + torch.where(both, dot(tops[:, one], ids[:, one], tops[:, other], ids[:, other]), 0)
        cosine = product / (tops.square().sum(-1) * together).sqrt().clamp(min=1e-12)
        return torch.where(number > 0, (1 - cosine).clamp(0, 1), 0)

    def threshold(self, calm: Tensor, apart: Tensor, state: Trace, masked: Tensor) -> Tensor:
        """(B, L): tau."""
        young = state.seen < self.min_history
        if self.reading == "H2":
            limit = quantile(calm, masked & ~young, self.p)
            scaled = torch.where(calm <= limit, self.tau_base * self.c_fast, self.tau_base * self.c_slow).clamp(0, 1)
            return torch.where(young, self.tau_base, scaled)
        sigma: float | Tensor = self.sigma**2 if self.metric == "var" else self.sigma
        delta: float | Tensor = self.delta
        power = self.p
        if self.norm == "quantile":
            sigma, delta, power = quantile(calm, masked, self.p).clamp(min=FLOOR), quantile(apart, masked, self.p).clamp(min=FLOOR), 1.0
        over_time, over_space = (calm / sigma).clamp(max=1), (apart / delta).clamp(max=1)
        if self.temporal == "off":
            unrest = over_space
        elif self.spatial == "off":
            unrest = over_time
        elif self.combine == "max":
            unrest = torch.maximum(over_time, over_space)
        else:
            unrest = self.lam * over_time + (1 - self.lam) * over_space
        high = self.c_fast if self.tau_max is None else self.tau_max
        tau = (self.c_slow + (high - self.c_slow) * unrest**power).clamp(self.c_slow, high)
        tau = torch.where(young, self.c_fast, tau)
        if self.reading == "H3" and self.slow_steps is not None:
            tau = torch.where(state.waited >= self.slow_steps, self.c_slow, tau)
        return tau


def detrended_variance(values: Tensor, counts: Tensor, detrend: str) -> Tensor:
    """(..., W) values, newest first, and which count (float) -> (...) population variance, if asked without their trend."""
    number = counts.sum(-1)
    if detrend == "diff":
        values, counts = values[..., :-1] - values[..., 1:], counts[..., 1:]
    fewer = counts.sum(-1).clamp(min=1)
    mean = (values * counts).sum(-1) / fewer
    rest = (values - mean[..., None]) * counts
    variance = rest.square().sum(-1) / fewer
    if detrend == "line":
        age = torch.arange(values.shape[-1], device=values.device).double()
        centred = (age - ((age * counts).sum(-1) / fewer)[..., None]) * counts
        slope = (centred * rest).sum(-1) / centred.square().sum(-1).clamp(min=1e-12)
        variance = ((rest - slope[..., None] * centred).square() * counts).sum(-1) / fewer
    if detrend != "none":
        variance = torch.where(number >= 3, variance, 0)
    return variance.clamp(min=0)


def beside(values: Tensor, radius: int) -> Tensor:
    """(B, L): the sum over the neighbours within `radius`, without the position itself."""
    kernel = torch.ones(1, 1, 2 * radius + 1, dtype=values.dtype, device=values.device)
    kernel[..., radius].fill_(0)
    return functional.conv1d(values[:, None], kernel, padding=radius)[:, 0]


def quantile(values: Tensor, among: Tensor, q: float) -> Tensor:
    """(B, 1): the q-quantile over a row's positions `among`; 0 where there are none."""
    return torch.nanquantile(values.masked_fill(~among, float("nan")), q, dim=1, keepdim=True).nan_to_num(0.0)
