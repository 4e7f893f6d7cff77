"""Public test doubles: exact denoisers and recorded randomness, so that decoders can be tested without weights."""

from remask.testing.localised import LocalisedMarkov
from remask.testing.markov import MarkovDenoiser
from remask.testing.recorded import RecordedUniforms

__all__ = ["LocalisedMarkov", "MarkovDenoiser", "RecordedUniforms"]
