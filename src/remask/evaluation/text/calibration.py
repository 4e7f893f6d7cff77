"""Whether a probability is what it says."""

from __future__ import annotations

from torch import Tensor

from remask.errors import RemaskError


def calibration_error(confidence: Tensor, right: Tensor, *, bins: int = 15) -> float:
    """Expected calibration error: the mean over bins of |share right - mean confidence|, each bin weighing what it holds.

    confidence, right: (N,) probabilities of the proposed tokens and whether they were right. Bins of equal mass: sorted by confidence and cut into
    `bins` runs whose sizes differ by at most one, so that no bin is decided by a handful of samples, as those of equal width are near 0 and 1.
    """
    if confidence.dim() != 1 or confidence.shape != right.shape or len(confidence) < bins:
        raise RemaskError(f"{tuple(confidence.shape)} confidences and {tuple(right.shape)} outcomes; pass as many of each, one dimension, and at least {bins} (bins)")
    order = confidence.double().argsort(stable=True)
    pairs = zip(confidence.double()[order].tensor_split(bins), right.double()[order].tensor_split(bins), strict=True)
    return sum(float((held.mean() - true.mean()).abs()) * len(held) for held, true in pairs) / len(confidence)
