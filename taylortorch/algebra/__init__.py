"""The algebra of truncated Taylor series: no tensors, only things that add and multiply."""
