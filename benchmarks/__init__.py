"""Benchmarks: ratios from interleaved runs."""
