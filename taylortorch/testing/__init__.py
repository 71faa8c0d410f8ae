"""What verifies a rule: ``check_rule``, and the oracles it compares with."""

from ..engine.samples import Sample, call, t
from .check import check_rule
from .diagnosis import Report

__all__ = ["Report", "Sample", "call", "check_rule", "t"]
