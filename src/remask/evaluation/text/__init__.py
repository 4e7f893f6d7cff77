"""Measuring open text, which has no right answer: a judge, statistics of the tokens, self-correction, calibration, comparison at equal entropy."""
