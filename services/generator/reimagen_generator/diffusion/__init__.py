"""Schedules, guidance, samplers and the cascade, over any callable network."""
