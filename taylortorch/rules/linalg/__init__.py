"""Linear systems, determinants and factorisations, each solved degree by degree."""

from . import tables

__all__ = ["tables"]
