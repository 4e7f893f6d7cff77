"""The settings that a bare name stands for in a frontier."""

from __future__ import annotations

from remask.decoders.joint_threshold import PRESETS
from remask.spec import spec as spec_of

STATIC = (*(round(0.05 * k, 2) for k in range(6, 20)), 0.97, 0.98, 0.99, 0.995, 0.999)
"""Thresholds of the static frontier: 0.30 to 0.95 by 0.05, then towards 1, so that it reaches the accuracies that other rules do."""

RISKS = ((0.001, 0.01), (0.001, 0.05), (0.005, 0.05), (0.01, 0.05), (0.01, 0.1), (0.01, 0.2), (0.02, 0.2), (0.02, 0.4), (0.05, 0.2), (0.05, 0.4), (0.1, 0.5), (0.3, 0.7))
SHARED_RISKS = ((0.1, 0.1), (0.25, 0.2), (0.5, 0.2), (0.5, 0.4))
LEFT_RISKS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.3)
"""Pairs of `budget` and `last`; the second ones divide the budget by the number that is written, the third ones, budgets with last=0.2, have left=1."""

STEPS = (2, 4, 8, 16, 32)

SWEEPS: dict[str, tuple[str, ...]] = {
    "threshold": tuple(f"threshold:tau={tau}" for tau in STATIC),
    "factor": tuple(f"factor:f={f}" for f in (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)),
    "risk": (
        *(f"risk:budget={budget},last={last}" for budget, last in RISKS),
        *(f"risk:budget={budget},last={last},together=1" for budget, last in SHARED_RISKS),
        *(f"risk:budget={budget},last=0.2,left=1" for budget in LEFT_RISKS),
    ),
    "entropy_bound": tuple(f"entropy_bound:gamma={gamma}" for gamma in (0.001, 0.01, 0.05, 0.1, 0.3, 1.0)),
    "klass": tuple(f"klass:tau={tau},eps={eps}" for tau in (0.6, 0.9) for eps in (0.01, 0.1)),
    "local_leap": tuple(f"local_leap:tau={tau},near={near}" for tau, near in ((0.7, 0.5), (0.8, 0.6), (0.9, 0.75), (0.95, 0.85))),
    "hierarchy": tuple(f"hierarchy:tau={tau},low={low}" for tau, low in ((0.8, 0.3), (0.9, 0.4), (0.95, 0.6), (0.99, 0.8))),
    "slow_fast": tuple(f"slow_fast:tau={tau}{slow}" for tau in (0.6, 0.7, 0.8, 0.85, 0.9, 0.95) for slow in ("", f",slow_tau={tau}")),
    "credit": tuple(f"credit:tau={tau}" for tau in (0.7, 0.8, 0.9, 0.95, 0.99)),
    "prophet": ("prophet", *(f"prophet:early={k},middle={k},late={k}" for k in (3, 5, 7, 9))),
    "joint_threshold": (*map(spec_of, PRESETS.values()), "joint_threshold:write_tau=0.7,edit_tau=0.9", "joint_threshold:write_tau=0.7,edit_tau=0.9,remask=true"),
    "saber": ("saber:least=1", "saber:least=2", "saber:least=4"),
    "dus": ("dus", "dus:skip=2", "dus:skip=3", "dus:threshold=0.5", "dus:threshold=0.9"),
    **{name: (name, *(f"{name}:steps={steps}" for steps in STEPS)) for name in ("low_confidence", "random", "origin", "maskgit_plus", "topk_margin", "entropy", "pc", "halton")},
    "ancestral": tuple(f"ancestral:steps={steps}" for steps in (*STEPS, 64)),
    "first_hitting": ("first_hitting",),
    "remdm": tuple(f"remdm:steps={steps}{more}" for steps in (8, 16, 32, 64) for more in ("", ",strategy=conf")),
    "remdm_llada": tuple(f"remdm_llada:steps={steps},loops={loops}" for steps in STEPS[2:] for loops in (4, 16)),
    "p2": tuple(f"p2:steps={steps},eta={eta}" for steps in (8, 16, 32) for eta in (1.0, 2.0)),
    "core": ("core", *(f"core:steps={steps},every={max(2, steps // 4)},reviews=2" for steps in STEPS[1:])),
    "wino": tuple(f"wino:tau={tau},check={check}" for tau, check in ((0.5, 0.9), (0.6, 0.9), (0.7, 0.7), (0.8, 0.9), (0.9, 0.9))),
    "spaced": tuple(f"spaced:inner=(threshold:tau={tau}),g0={g0}" for tau in (0.5, 0.7, 0.9) for g0 in (2, 8)),
    "starr": tuple(
        f"starr:c_fast={fast},c_slow={slow},spatial={spatial}"
        for fast, slow in ((0.7, 0.5), (0.8, 0.6), (0.9, 0.6), (0.9, 0.8), (0.95, 0.8), (0.99, 0.9), (0.999, 0.99))
        for spatial in ("abs", "neg")
    )
    + tuple(f"starr:c_fast={fast},c_slow={slow},signals=distribution" for fast, slow in ((0.8, 0.6), (0.9, 0.6), (0.95, 0.8))),
}
"""What a bare name stands for; a decoder that is not here is run as it is written."""


def settings(name: str) -> tuple[str, ...]:
    """The sweep of a bare name, or the spec string itself."""
    return SWEEPS.get(name, (name,))
