"""What verifies a rule: ``check_rule``, and the oracles it compares with."""

from ..engine.samples import Sample, call, t
from .check import Report, check_rule

__all__ = ["Report", "Sample", "call", "check_rule", "t"]
