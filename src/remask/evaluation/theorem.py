"""SureLock's Theorem 1 (arXiv 2602.06412, section 5): how far a locked posterior can be from that of the run without locks."""

from __future__ import annotations

from math import sqrt

from remask.errors import RemaskError

SOFTMAX = sqrt(2)
"""L_sm: log softmax moves at most so much, in the largest coordinate, a unit of the logits' 2-norm; sup ||e_v - p||_2."""


def tail_constant(rho: float, lip: float) -> float:
    """C_tail = L_sm Lip / (1 - sqrt(rho)), if D_s <= rho D_(s-1) (rho in [0, 1)) and ||z_s - z_(s-1)||_2 <= lip sqrt(D_(s-1)) at every later pass."""
    if not 0 <= rho < 1:
        raise RemaskError(f"rho is {rho}; the sum over later passes converges for 0 <= rho < 1 only")
    return SOFTMAX * lip / (1 - sqrt(rho))


def bound(divergence: float, rho: float, lip: float) -> float:
    """||log p_T - log p_lock||_inf at most, of a position that locked at that divergence."""
    return tail_constant(rho, lip) * sqrt(max(divergence, 0.0))
