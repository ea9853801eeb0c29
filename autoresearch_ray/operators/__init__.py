"""Proposes variants from their parents."""
