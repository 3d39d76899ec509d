"""Applies the scale decisions of reference.policy."""
