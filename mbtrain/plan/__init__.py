"""The subject in integers: epochs, mini-batches, micro-batches, BN groups, orders, schedules (no torch)."""
