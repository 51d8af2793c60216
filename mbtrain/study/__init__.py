"""Many runs with one purpose: a sweep's jobs, their processes, and what they come to."""
