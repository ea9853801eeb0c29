"""Remembers: one row per birth and experiment, durable before it is acknowledged."""
