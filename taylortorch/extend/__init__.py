"""Rules for users' own functions."""

from .register import register_rule

__all__ = ["register_rule"]
