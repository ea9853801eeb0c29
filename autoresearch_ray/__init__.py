"""autoresearch-ray: evolve train.py on Ray."""

__version__ = "0.1.0"
