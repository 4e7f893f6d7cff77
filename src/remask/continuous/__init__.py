"""Decoding in the continuous state of DSL: grids of SNRs, the SDE, hybrids with the discrete loop, and likelihood bounds."""

from remask.continuous.base import StateDenoiser
from remask.continuous.bounds import cross_entropies, diffusion_bound, random_order_bound
from remask.continuous.grids import linear, log_linear, log_normal
from remask.continuous.hybrid import decode_commit, decode_native
from remask.continuous.samplers import SAMPLERS, SDE, Commit, Discrete, Native, Sampler
from remask.continuous.sde import decode_sde

__all__ = [
    "SAMPLERS", "SDE", "Commit", "Discrete", "Native", "Sampler", "StateDenoiser", "cross_entropies", "decode_commit", "decode_native", "decode_sde", "diffusion_bound",
    "linear", "log_linear", "log_normal", "random_order_bound",
]  # fmt: skip
