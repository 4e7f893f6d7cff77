"""Training masked diffusion language models: corruption, objectives, data, and a run that may stop and continue anywhere."""
