"""Benchmarks: `macro` puts whole programs side by side, `micro` times single functions."""
