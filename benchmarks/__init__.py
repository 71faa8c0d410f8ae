"""Benchmarks: ratios from interleaved runs. ``python -m benchmarks`` runs them."""
