"""Runs a command as an ordinary user, in the place of root: `python ordinary_user.py UID COMMAND ...`.

What lies below folders that such a user may not enter (an interpreter in root's home) stays readable: in a mount
namespace of its own, an empty folder with just that takes their place.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

from autoresearch_ray.training.sandbox import kernel, namespaces

NEW_MOUNTS, PRIVATE = 0x20000, 1 << 18


def main(uid: int, command: list[str]) -> None:
    """Become that user, and then the command."""
    needed = {Path(sys.base_prefix), Path(sys.prefix), Path(__file__).parents[2], Path.cwd()}
    needed |= {Path(path) for path in sys.path if os.path.isabs(path) and os.path.isdir(path)}
    needed |= {Path(sysconfig.get_path("purelib")), Path(os.environ["TMPDIR"])}
    kernel.call("unshare", NEW_MOUNTS)
    namespaces._set_attributes(Path("/"), propagation=PRIVATE, recursive=True)
    for folder, below in namespaces.blocked(sorted(needed), uid).items():
        namespaces._replace(folder, below)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
