"""Rows of similar length that share a forward: immutable, and stepped by a pure function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from remask.canvas import Canvas
from remask.compute import Kept, Manner, Model, compute
from remask.denoise import Plan, State, Step, conclude, grown, look, predict, start


@dataclass(frozen=True, eq=False)
class Group:
    """Rows with equal parts. state: without what is kept of the network, which is the cohort's.  riders: whose row each is."""

    plan: Plan
    state: State
    riders: tuple[Any, ...]

    @property
    def count(self) -> int:
        """Rows."""
        return len(self.riders)


@dataclass(frozen=True, eq=False)
class Cohort:
    """Groups of one manner on canvases of one length. kept: of all rows, in the order of the groups."""

    groups: tuple[Group, ...]
    kept: Kept = Kept()

    @staticmethod
    def of(canvas: Canvas, plan: Plan, seed: int, rider: Any) -> Cohort:
        """A newcomer, (1, L)."""
        return Cohort((Group(plan, start(canvas, plan, torch.tensor([seed], device=canvas.tokens.device)), (rider,)),))

    @property
    def manner(self) -> Manner:
        """What all its rows ask of the network."""
        return self.groups[0].plan.manner

    @property
    def length(self) -> int:
        """Positions of its canvas, padding included."""
        return self.groups[0].state.canvas.shape[1]

    @property
    def count(self) -> int:
        return sum(group.count for group in self.groups)

    @property
    def riders(self) -> list[Any]:
        """Whose row each is, group by group."""
        return [rider for group in self.groups for rider in group.riders]

    @property
    def slices(self) -> list[slice]:
        """The rows of each group."""
        ends = [sum(group.count for group in self.groups[: number + 1]) for number in range(len(self.groups))]
        return [slice(end - group.count, end) for end, group in zip(ends, self.groups, strict=True)]

    def rows(self, chosen: Sequence[int]) -> Cohort:
        """The rows of these rising indices, at least one, on a canvas as long as the longest of them."""
        if len(chosen) == self.count:
            return self
        groups: list[Group] = []
        for group, piece in zip(self.groups, self.slices, strict=True):
            local = [row - piece.start for row in chosen if piece.start <= row < piece.stop]
            if local:
                groups.append(Group(group.plan, group.state.rows(self._index(local)), tuple(group.riders[row] for row in local)))
        length = max(group.state.canvas.shape[1] for group in groups)
        same = tuple(replace(group, state=State.joined([group.state], length)) for group in groups)
        return Cohort(same, self.kept.take(self._index(chosen), length))

    @staticmethod
    def joined(cohorts: Sequence[Cohort]) -> Cohort:
        """All rows in one, those with equal plans in one group, padded to the longest."""
        if len(cohorts) == 1:
            return cohorts[0]
        length = max(cohort.length for cohort in cohorts)
        plans: list[Plan] = []
        members: list[list[tuple[Group, list[int]]]] = []
        first = 0
        for group in (group for cohort in cohorts for group in cohort.groups):
            if group.plan not in plans:
                plans.append(group.plan)
                members.append([])
            members[plans.index(group.plan)].append((group, list(range(first, first + group.count))))
            first += group.count
        groups = tuple(
            Group(plan, State.joined([group.state for group, _ in same], length), tuple(rider for group, _ in same for rider in group.riders))
            for plan, same in zip(plans, members, strict=True)
        )
        kept = Kept.joined([cohort.kept for cohort in cohorts], [cohort.count for cohort in cohorts], length)
        order = [row for same in members for _, rows in same for row in rows]
        return Cohort(groups, kept if order == sorted(order) else kept.take(cohorts[0]._index(order), length))

    def _index(self, rows: Sequence[int]) -> Tensor:
        return torch.tensor(rows, device=self.groups[0].state.canvas.tokens.device)


def lengthened(model: Model, cohort: Cohort) -> Cohort:
    """The cohort on the canvas that its windows want for the next pass."""
    if not any(group.plan.window.grows for group in cohort.groups):
        return cohort
    counts = [group.count for group in cohort.groups]
    kept = [cohort.kept.take(cohort._index(range(piece.start, piece.stop)), cohort.length) for piece in cohort.slices]
    made = [grown(model, replace(group.state, kept=own), group.plan) for group, own in zip(cohort.groups, kept, strict=True)]
    length = max(state.canvas.shape[1] for state, _ in made)
    joined = Kept.joined([state.kept for state, _ in made], counts, length) if any(source is not None for _, source in made) else cohort.kept
    groups = tuple(replace(group, state=State.joined([replace(state, kept=Kept())], length)) for group, (state, _) in zip(cohort.groups, made, strict=True))
    return Cohort(groups, joined)


def advance(model: Model, cohort: Cohort) -> tuple[Cohort, list[Step]]:
    """One step of every row, through one forward; a Step for each group.

    If it raises, `cohort` can be stepped again: a pass only overwrites stored keys and values that the next one computes anew.
    """
    sights = [look(group.state, group.plan) for group in cohort.groups]
    canvas = Canvas.joined([sight.canvas for sight in sights])
    active, steps = torch.cat([sight.active for sight in sights]), torch.cat([group.state.step for group in cohort.groups])
    kept, computed = compute(model, canvas, cohort.kept, active, steps, cohort.manner)
    groups: list[Group] = []
    seen: list[Step] = []
    for group, sight, piece in zip(cohort.groups, sights, cohort.slices, strict=True):
        before = None if cohort.kept.logits is None else cohort.kept.logits[piece]  # which no rule reads where they are not kept
        prediction = predict(model, group.plan, group.state, sight, kept, piece)
        state, made = conclude(model, replace(group.state, kept=Kept(before)), group.plan, sight, prediction, computed[piece])
        groups.append(replace(group, state=replace(state, kept=Kept())))
        seen.append(made)
    return Cohort(tuple(groups), kept), seen
