"""The exact denoiser of a Markov chain seen through the localisation channel."""

from __future__ import annotations

from torch import Tensor

from remask.channel import tilt, unit
from remask.testing.markov import MarkovDenoiser


class LocalisedMarkov(MarkovDenoiser):
    """A MarkovDenoiser that also reads continuous states: forward-backward with the evidence exp(<z_i, e_v>).

    codes: (V, E), rows are brought to norm 1.  snr_max: the SNR at which a known token counts as seen.
    """

    def __init__(self, initial: Tensor, transition: Tensor, codes: Tensor, snr_max: float = 100.0) -> None:
        super().__init__(initial, transition)
        self.codes, self.snr_max = unit(codes.double()), snr_max

    def read(self, z: Tensor, real: Tensor | None = None) -> Tensor:
        """(B, L, E) states -> (B, L, V) log posteriors, each position's own evidence included. Padding must be at z = 0."""
        self.calls += 1
        self.computed += z.shape[0] * z.shape[1]
        score = tilt(z.double(), self.codes)
        evidence = (score - score.amax(-1, keepdim=True)).exp().clamp(min=1e-300)
        joint = self.leave_one_out(evidence) * evidence
        return (joint / joint.sum(-1, keepdim=True)).clamp(min=1e-300).log()
