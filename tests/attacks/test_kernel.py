"""Doors in the kernel that walls tend to forget: asynchronous calls, other calling conventions, handles, namespaces."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest
from arena import Arena

CALLS = """
import ctypes, struct
libc = ctypes.CDLL(None, use_errno=True)

def call(*arguments):
    if (got := libc.syscall(*arguments)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return got

room = ctypes.create_string_buffer(4096)
name = FACTS["folder"].encode()
attempt("io_uring_setup", lambda: call(425, 4, room))
attempt("userfaultfd", lambda: call(323, 0o2000001))
attempt("bpf", lambda: call(321, 0, struct.pack("IIIII", 2, 4, 4, 1, 0) + bytes(108), 128))
attempt("perf_event_open", lambda: call(298, struct.pack("IIQ", 1, 112, 0) + bytes(96), 0, -1, -1, 0))
attempt("keyctl", lambda: call(250, 0, -4, 1))
attempt("add_key", lambda: call(248, b"user", b"evil", b"evil", 4, -5))
attempt("name_to_handle_at", lambda: call(303, -100, name, struct.pack("Ii", 128, 0) + bytes(128), room, 0))
attempt("open_by_handle_at", lambda: call(304, 3, struct.pack("Ii", 8, 1) + bytes(8), 0))
attempt("mount", lambda: call(165, b"none", name, b"tmpfs", 0, None))
attempt("open_tree", lambda: call(428, -100, name, 1))
attempt("fsopen", lambda: call(430, b"tmpfs", 0))
attempt("fsmount", lambda: call(432, 3, 0, 0))
attempt("move_mount", lambda: call(429, -100, name, -100, name, 0))
attempt("umount", lambda: call(166, b"/dev/shm", 2))
attempt("pivot_root", lambda: call(155, b".", b"."))
attempt("chroot", lambda: in_child(lambda: os.chroot(".")))
kinds = {0x10000000: "user", 0x20000: "mount", 0x20000000: "pid", 0x40000000: "net", 0x8000000: "ipc"}
for flag, kind in kinds.items():
    attempt("unshare " + kind, lambda: in_child(lambda: call(272, flag)))
    attempt("clone into a new " + kind, lambda: os.waitpid(call(56, flag | 17, 0, 0, 0, 0) or os._exit(0), 0))
new_user = struct.pack("QQQQQQQQ", 0x10000000, 0, 0, 0, 17, 0, 0, 0)
attempt("clone3 into new namespaces", lambda: os.waitpid(call(435, new_user, 64) or os._exit(0), 0))
attempt("setns", lambda: call(308, os.open("/proc/1/ns/mnt", 0), 0))
"""

MORE_CALLS = """
import ctypes, fcntl, os, resource, struct
libc = ctypes.CDLL(None, use_errno=True)

def call(*arguments):
    if (got := libc.syscall(*arguments)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return got

READ_SEARCH = 4  # reads what Landlock lets it, for an interpreter in a folder of root's

def steal_input(path):
    fcntl.ioctl(os.open(path, os.O_RDWR | os.O_NOCTTY), 0x5412, b"x")  # TIOCSTI

attempt("sethostname", lambda: call(170, os.uname().nodename.encode(), len(os.uname().nodename)))
attempt("settimeofday", lambda: call(164, None, None))
attempt("clock_settime", lambda: call(227, 0, struct.pack("qq", -1, 0)))
attempt("adjtimex", lambda: call(159, struct.pack("I", 1) + bytes(204)))
attempt("reboot", lambda: call(169, 0xFEE1DEAD, 672274793, 0, 0))  # turns Ctrl-Alt-Del off, as it is
attempt("syslog", lambda: call(103, 10, 0, 0))
attempt("init_module", lambda: call(175, b"", 0, b""))
attempt("finit_module", lambda: call(313, 0, b"", 0))
attempt("kexec_load", lambda: call(246, 0, 0, None, 0))
attempt("swapon", lambda: call(167, b"/nowhere", 0))
attempt("acct", lambda: call(163, b"/nowhere"))
attempt("quotactl", lambda: call(179, 0x800001 << 8, b"/nowhere", 0, None))
attempt("iopl", lambda: call(172, 3))
attempt("ioperm", lambda: call(173, 0x80, 1, 1))
attempt("fanotify", lambda: call(300, 0x4, 0))
attempt("uid", lambda: os.setresuid(0, 0, 0) if os.getuid() else 1 / 0)
attempt("gid", lambda: os.setresgid(0, 0, 0) if os.getgid() else 1 / 0)
attempt("groups", lambda: os.setgroups([0]))
everything = struct.pack("6I", *[0xFFFFFFFF, 0xFFFFFFFF, 0] * 2)
attempt("capabilities", lambda: call(126, struct.pack("Ii", 0x20080522, 0), everything))
attempt("keep capabilities", lambda: call(157, 47, 2, 21, 0, 0))  # PR_CAP_AMBIENT_RAISE CAP_SYS_ADMIN
attempt("raised limits", lambda: resource.setrlimit(resource.RLIMIT_CORE, (1 << 20, 1 << 20)))
for path in ("/dev/tty", "/dev/tty1", "/dev/console", "/dev/pts/0", "/dev/pts/1"):
    attempt("type into " + path, lambda: steal_input(path))
status = dict(line.split(":\\t") for line in open("/proc/self/status"))
held = {name: int(status[name], 16) & ~READ_SEARCH for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")}
attempt("capabilities held", lambda: [name for name, bits in held.items() if bits][0])
attempt("new privileges", lambda: call(157, 39, 0, 0, 0, 0) == 0 or 1 / 0)
attempt("root", lambda: os.getuid() == 0 or 1 / 0)
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of system calls")
@pytest.mark.parametrize("calls", [CALLS, MORE_CALLS], ids=["calls", "more calls"])
def test_calls(walled: Arena, outside: Path, calls: str) -> None:
    seen = walled.attack(calls, folder=outside)
    seen.assert_all_refused()
    seen.assert_trained_honestly()


@pytest.mark.skipif(
    platform.machine() != "x86_64" or os.geteuid() != 0, reason="numbers of system calls; root's powers"
)
def test_calls_work_without_walls(unwalled: Arena, outside: Path) -> None:
    harmless = CALLS.split('attempt("mount"')[0] + MORE_CALLS.split('attempt("settimeofday"')[0].split("\n\n", 2)[-1]
    done = set(unwalled.attack(harmless, folder=outside).done())
    assert {"io_uring_setup", "userfaultfd", "bpf", "name_to_handle_at"} <= done


MACHINE_CODE = """
import ctypes, mmap

def execute(code):
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    return ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()

def expect(value):
    if value < 0:
        raise OSError(-value, "refused")
    return value

def old_call(number, *arguments):
    'int 0x80: the table of 32 bits, where numbers mean other calls.'
    code = b"\\x53\\xb8" + number.to_bytes(4, "little")
    for opcode, value in zip((b"\\xbb", b"\\xb9", b"\\xba"), arguments):
        code += opcode + value.to_bytes(4, "little")
    return expect(ctypes.c_int(execute(code + b"\\xcd\\x80\\x5b\\xc3")).value)

def x32_call(number, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if (got := libc.syscall(0x40000000 | number, *arguments)) < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return got

attempt("code runs", lambda: in_child(lambda: execute(b"\\xb8\\x07\\x00\\x00\\x00\\xc3")))
attempt("old socket", lambda: in_child(lambda: old_call(359, 2, 1, 0)))
attempt("old socketcall", lambda: in_child(lambda: old_call(102, 1, 0)))
attempt("old getpid", lambda: in_child(lambda: old_call(20)))
attempt("x32 socket", lambda: in_child(lambda: x32_call(41, 2, 1, 0)))
attempt("x32 ptrace", lambda: in_child(lambda: x32_call(521, 0, 0, 0, 0)))
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="machine code")
def test_other_calling_conventions(walled: Arena) -> None:
    """A filter that looks at numbers alone lets the calls of 32 bits through, whose numbers are others."""
    seen = walled.attack(MACHINE_CODE)
    assert set(seen.done()) == {"code runs"}
    seen.assert_trained_honestly()


PROGRAMS = """
import ctypes, shutil, stat, subprocess
libc = ctypes.CDLL(None, use_errno=True)

def run(*command, **more):
    return subprocess.run(command, check=True, stdout=-1, stderr=-3, stdin=-3, timeout=20, **more).stdout

def in_memory():
    'A program without a file, as scanners do not see it.'
    fd = libc.memfd_create(b"evil", 0)
    os.write(fd, open(shutil.which("cat"), "rb").read())
    return run(f"/proc/self/fd/{fd}", FACTS["secret"], pass_fds=[fd])

def own_set_user_id():
    shutil.copy(shutil.which("id"), "id")
    os.chown("id", 0, 0)
    os.chmod("id", 0o6755)
    return run("./id", "-u").index(b"0\\n")

def set_user_id():
    return run("newgrp", "root", "-c", "id").index(b"uid=0")

def preload():
    source = "#include <stdio.h>\\n__attribute__((constructor)) static void act(void) { puts(\\"acted\\"); }"
    subprocess.run(["cc", "-shared", "-xc", "-", "-o", "evil.so"], input=source, text=True, check=True)
    environment = {"LD_PRELOAD": os.path.abspath("evil.so")}
    return run("passwd", "--status", env=environment).index(b"acted")

def loader():
    'The dynamic linker as a way around a refused execute.'
    shutil.copy(shutil.which("cat"), "cat")
    return run("/lib64/ld-linux-x86-64.so.2", "./cat", FACTS["secret"])

attempt("program in memory", in_memory)
attempt("own set-user-id program", own_set_user_id)
attempt("set-user-id program", set_user_id)
attempt("preload into a set-user-id program", preload)
attempt("through the dynamic linker", loader)
attempt("sudo", lambda: run("sudo", "-n", "id"))
attempt("mount program", lambda: run("mount", "-t", "tmpfs", "none", "."))
attempt("user namespace program", lambda: run("unshare", "-Ur", "id", "-u"))
"""


def test_programs_gain_nothing(walled: Arena, unwalled: Arena, outside: Path) -> None:
    """Whatever it executes has its own walls: no privilege of a set-user-id file, no way round by memory or linker."""
    bites = unwalled.attack(PROGRAMS, secret=outside / "secret")
    assert {"program in memory", "through the dynamic linker"} <= set(bites.done())
    seen = walled.attack(PROGRAMS, secret=outside / "secret")
    assert "sk-outside" not in seen.result.log_tail
    seen.assert_all_refused(*bites.outcomes)
    seen.assert_trained_honestly()


UNWALL = """
import ctypes, fcntl, struct
libc = ctypes.CDLL(None, use_errno=True)
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, PR_SET_MM = 22, 38, 35

def read():
    return open(FACTS["secret"]).read()

def permissive_layer():
    'A second Landlock layer can only take away.'
    ruleset = libc.syscall(444, struct.pack("Q", 4), 8, 0)
    rule = struct.pack("=Qi", 4, os.open("/", os.O_PATH))
    libc.syscall(445, ruleset, 1, rule, 0)
    libc.syscall(446, ruleset, 0)
    return read()

def permissive_filter():
    program = struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000)
    held = ctypes.create_string_buffer(program)
    libc.prctl(PR_SET_SECCOMP, 2, struct.pack("HxxxxxxQ", 1, ctypes.addressof(held)), 0, 0)
    return __import__("socket").socket(2, 1).fileno()

def write_own_memory():
    'Writing through /proc/self/mem changes read-only pages of our own; the walls are not among them.'
    with open("/proc/self/mem", "r+b", 0) as memory:
        memory.seek(ctypes.cast(libc.getpid, ctypes.c_void_p).value)
        memory.write(b"\\xb8\\x00\\x00\\x00\\x00\\xc3")
    return read()

def thread():
    'Walls must be around every thread.'
    import threading
    got = []
    def act():
        try: got.append(read())
        except OSError: pass
    worker = threading.Thread(target=act); worker.start(); worker.join()
    return got[0]

attempt("permissive Landlock layer", lambda: in_child(permissive_layer))
attempt("permissive filter", lambda: in_child(permissive_filter))
attempt("own memory through /proc", lambda: in_child(write_own_memory))
attempt("another thread", thread)
attempt("another session", lambda: in_child(lambda: (os.setsid(), read())[1]))
attempt("after fork and exec", lambda: os.popen("exec cat " + FACTS["secret"]).read() or 1 / 0)
"""


def test_walls_cannot_be_taken_down(walled: Arena, unwalled: Arena, outside: Path) -> None:
    bites = unwalled.attack(UNWALL, secret=outside / "secret")
    assert {"permissive filter", "another thread", "after fork and exec"} <= set(bites.done())
    seen = walled.attack(UNWALL, secret=outside / "secret")
    seen.assert_all_refused(*bites.outcomes)
    seen.assert_trained_honestly()
