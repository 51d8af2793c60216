"""The run's own log, which is the truth: writer, reader, status, lock (no torch)."""
