"""Carries births out: on Ray."""
