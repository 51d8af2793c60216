"""Losses: a value per sample or token, and its weight; the update uses sum(values) / sum(weights)."""
