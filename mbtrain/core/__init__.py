"""The mathematics of one update, torch only and pure: the mean gradient of a mini-batch, the seeds of an iteration."""
