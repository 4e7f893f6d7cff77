"""A model for EleutherAI's lm-evaluation-harness (extra `harness`): its tasks, prompts and scores, with any of our decoders.

Prompts go to the tokenizer byte for byte as the task gives them: no template, no token added, nothing stripped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

from remask.canvas import Canvas
from remask.denoise import Step, denoise
from remask.errors import RemaskError
from remask.generate import Stats, generate
from remask.likelihood import log_likelihood
from remask.shapers import Temperature
from remask.trace.record import Records, record

NEW_TOKENS = 256
"""Room for tasks that name none: the harness's own default."""


@dataclass(frozen=True)
class Settings:
    """parts: decoder, window and reuse as keyword arguments of generate.  samples: of the likelihood bound.  seed: request i uses seed + i.
    told: what a trace tells of the network, beside the parts.
    """

    parts: dict[str, Any] = field(default_factory=dict)
    batch: int = 16
    samples: int = 128
    seed: int = 0
    told: Mapping[str, str] = field(default_factory=dict)


class RemaskLM(LM):
    """A loaded model as the harness sees one. costs: of every text that was generated.  trace: takes every step of these, a run a request."""

    def __init__(self, model: Any, settings: Settings = Settings(), trace: Records | None = None) -> None:
        super().__init__()
        if model.tokenizer is None:
            raise RemaskError("this checkpoint has no tokenizer files; put tokenizer.json beside config.json to evaluate it")
        self.model, self.settings, self.trace = model, settings, trace
        self.costs: list[Stats] = []

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The text of each request up to the first of its `until` strings; those of one length and temperature are decoded together."""
        texts = [""] * len(requests)
        manners: dict[tuple[int, float], list[int]] = {}
        for index, request in enumerate(requests):
            prompt, asked = arguments(request)
            manners.setdefault((self.room(prompt, asked), heat(asked)), []).append(index)
        for (room, temperature), members in manners.items():
            for start in range(0, len(members), self.settings.batch):
                chosen = members[start : start + self.settings.batch]
                for index, text in zip(chosen, self.texts([arguments(requests[index])[0] for index in chosen], room, temperature, chosen), strict=True):
                    texts[index] = before_any(text, arguments(requests[index])[1].get("until"))
        return texts

    def texts(self, prompts: Sequence[str], room: int, temperature: float, numbers: Sequence[int]) -> list[str]:
        """One batch; request i uses seed + i, so its text does not depend on the batch."""
        shapers = (Temperature(temperature),) if temperature else ()
        seeds = [self.settings.seed + number for number in numbers]
        told = {**self.settings.told, **{name: str(part) for name, part in self.settings.parts.items()}, "shapers": ", ".join(map(str, shapers))}

        def through(steps: Iterator[Step]) -> Iterator[Step]:
            return steps if self.trace is None else record(steps, self.trace, runs=[*map(str, numbers)], seeds=seeds, settings=told, drafts=False)

        asked: dict[str, Any] = {"max_new_tokens": room, "shapers": shapers, "seed": seeds, "unconditional": True, "observed": self.trace is not None}
        made = generate(self.model, prompts, through=through, **asked, **self.settings.parts)
        self.costs += [completion.stats for completion in made]
        return [completion.text for completion in made]

    def room(self, prompt: str, asked: dict[str, Any]) -> int:
        """New tokens: what the task asks for, as far as the model reaches."""
        wanted = int(asked.get("max_gen_toks", NEW_TOKENS))
        if self.model.max_length is None:
            return wanted
        left = self.model.max_length - len(self.model.tokenizer.encode(prompt))
        if left < 1:
            raise RemaskError(f"a prompt of the task leaves no room in the model's {self.model.max_length} positions; use fewer shots, or another model")
        return min(wanted, left)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """The Monte-Carlo bound for each (context, continuation), and whether greedy decoding writes the continuation."""
        return [self.judged(*self.divided(*arguments(request))) for request in requests]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """The bound for whole texts, in pieces that fit the model."""
        return [sum(self.bound([], piece) for piece in self.pieces(arguments(request)[0])) for request in requests]

    def divided(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """The ids of both, from one encoding of the whole text; blanks between them belong to the continuation, as in the harness."""
        bare = context.rstrip()
        context, continuation = bare, context[len(bare) :] + continuation
        whole, before = self.model.tokenizer.encode(context + continuation), self.model.tokenizer.encode(context)
        return whole[: len(before)], whole[len(before) :]

    def judged(self, context: list[int], answer: list[int]) -> tuple[float, bool]:
        """The bound, and whether greedy decoding on a canvas of the answer's length writes it."""
        canvas = Canvas.from_prompts([context], max_new_tokens=len(answer), mask_id=self.model.mask_id, device=getattr(self.model, "device", None))
        model, last = getattr(self.model, "unrecorded", self.model), None  # one canvas of its own length: nothing of it would be met again
        for last in denoise(model, canvas, **self.settings.parts):
            pass
        return self.bound(context, answer), last is not None and last.canvas.tokens[0, len(context) :].tolist() == answer

    def bound(self, context: list[int], answer: list[int]) -> float:
        """In nats; 0 for nothing."""
        if not answer:
            return 0.0
        return log_likelihood(self.model, context, answer, samples=self.settings.samples, seed=self.settings.seed, batch=self.settings.batch).bound

    def pieces(self, text: str) -> list[list[int]]:
        """The ids of a text, cut where the model's reach ends."""
        ids = self.model.tokenizer.encode(text)
        reach = self.model.max_length or max(1, len(ids))
        return [ids[start : start + reach] for start in range(0, len(ids), reach)]


def arguments(request: Instance) -> Any:
    """What a request is about: (prompt, settings), (context, continuation) or (text,), by its kind."""
    return request.args


def heat(asked: dict[str, Any]) -> float:
    """The temperature that a task asks for: 0 unless it samples."""
    return float(asked.get("temperature", 0.0)) if asked.get("do_sample", True) else 0.0


def before_any(text: str, stops: Sequence[str] | str | None) -> str:
    """The text before the first of the stops."""
    found = [text.find(stop) for stop in ([stops] if isinstance(stops, str) else stops or ()) if stop and stop in text]
    return text[: min(found)] if found else text


def run_task(model: Any, task: str, *, settings: Settings, limit: int | None = None, folder: Path | None = None, trace: Records | None = None) -> dict[str, Any]:
    """The harness's scores of a task and what they cost. folder: where task files of one's own lie, which are then all that it knows (the harness's own take seconds to index)."""
    manager = TaskManager() if folder is None else TaskManager(include_path=str(folder), include_defaults=False)
    if task not in manager.all_tasks:
        raise RemaskError(f"the harness knows no task {task!r}; see `lm-eval ls tasks`, or name the folder of its file with --tasks")
    judge = RemaskLM(model, settings, trace)
    run: Any = simple_evaluate
    found = run(judge, tasks=[task], limit=limit, task_manager=manager, bootstrap_iters=0, log_samples=False, random_seed=settings.seed)
    rows, forwards, generated = len(judge.costs), sum(cost.forwards for cost in judge.costs), sum(cost.generated for cost in judge.costs)
    costs = {
        "generated_texts": rows,
        "forwards_per_row": forwards / max(1, rows),
        "tokens_per_forward": generated / max(1, forwards),
        "positions_per_row": sum(cost.positions for cost in judge.costs) / max(1, rows),
    }
    return {"results": found["results"], "versions": found["versions"], "n-shot": found["n-shot"], "n-samples": found["n-samples"], "costs": costs}
