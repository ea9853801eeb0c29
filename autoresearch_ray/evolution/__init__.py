"""Decides who breeds: pure, no I/O, clock or Ray."""
