"""Masks: what turns trainable scores into the mask that multiplies a frozen kernel."""

from ssm_jax.masks.rule import RULES, Counts, Rule, count, fixed_threshold, rule, signed

__all__ = ["RULES", "Counts", "Rule", "count", "fixed_threshold", "rule", "signed"]
