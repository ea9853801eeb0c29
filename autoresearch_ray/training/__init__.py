"""Measures: one experiment on one machine, from the trusted side."""
