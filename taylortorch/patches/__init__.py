"""Everything that is changed in torch, and nowhere else."""
