"""Ratios against peers and floor, measured by one command: `python -m benchmarks`."""
