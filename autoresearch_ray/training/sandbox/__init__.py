"""The walls around a variant's process: Landlock, seccomp, another identity, namespaces, limits; and the proof of each.

Standard library only, since the launcher imports it. Does not own what runs inside (launcher.py).
"""
