"""How a series is a tensor, and how each kind of function acts on it; names no function."""
