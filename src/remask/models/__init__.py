"""Model families, one file each, and how to load them."""

from remask.models.base import Denoiser, Network
from remask.models.guidance import Guided
from remask.models.loading import load

__all__ = ["Denoiser", "Guided", "Network", "load"]
