"""The parts of scripts/benchmark.py: cases, peers, pairs, tables, record."""
