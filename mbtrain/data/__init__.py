"""Data sets, and the way from their files to the mini-batches that training reads."""
