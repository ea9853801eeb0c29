"""Shows a lineage."""
