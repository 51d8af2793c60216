"""Probes: measure at some iterations, change no bit of the training."""
