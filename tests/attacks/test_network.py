"""Connects: TCP, UDP, DNS, pathname and abstract Unix sockets, odd families, descriptors handed over, io_uring."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from arena import Arena


@dataclass(frozen=True)
class Servers:
    """Somebody listens on every kind of socket, as Ray does; `visited` says who was reached."""

    facts: dict[str, object]
    sockets: dict[str, socket.socket]

    def visited(self) -> list[str]:
        """Return the servers that got a connection or a datagram."""
        reached = []
        for name, server in self.sockets.items():
            with contextlib.suppress(BlockingIOError):
                if server.type == socket.SOCK_STREAM:
                    server.accept()[0].close()
                else:
                    server.recv(100)
                reached.append(name)
        return reached

    def forget(self) -> None:
        """Drop what has arrived."""
        while self.visited():
            pass


@pytest.fixture
def servers(outside: Path) -> Iterator[Servers]:
    """Listening sockets that anybody may connect to."""
    abstract = f"raylet-{secrets.token_hex(4)}"
    names: dict[str, tuple[int, int, object]] = {
        "tcp": (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
        "udp": (socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
        "path": (socket.AF_UNIX, socket.SOCK_STREAM, str(outside / "raylet")),
        "path datagram": (socket.AF_UNIX, socket.SOCK_DGRAM, str(outside / "log")),
        "abstract": (socket.AF_UNIX, socket.SOCK_STREAM, "\0" + abstract),
        "abstract datagram": (socket.AF_UNIX, socket.SOCK_DGRAM, "\0" + abstract + "d"),
    }
    with contextlib.ExitStack() as stack:
        made = {}
        for name, (family, kind, address) in names.items():
            made[name] = stack.enter_context(socket.socket(family, kind))
            made[name].bind(address)
            made[name].setblocking(False)
            if kind == socket.SOCK_STREAM:
                made[name].listen()
        for path in ("raylet", "log"):
            os.chmod(outside / path, 0o777)
        ports = {name: made[name].getsockname()[1] for name in ("tcp", "udp")}
        yield Servers({"abstract": abstract, "folder": outside, **ports}, made)


CONNECTS = """
import socket
STREAM, DATAGRAM = socket.SOCK_STREAM, socket.SOCK_DGRAM

def connect(family, kind, address):
    with socket.socket(family, kind) as ours:
        ours.settimeout(2)
        if kind == STREAM:
            ours.connect(address)
        else:
            ours.sendto(b"secret", address)

folder, name = FACTS["folder"], "\\0" + FACTS["abstract"]
attempt("tcp", lambda: connect(socket.AF_INET, STREAM, ("127.0.0.1", FACTS["tcp"])))
attempt("udp", lambda: connect(socket.AF_INET, DATAGRAM, ("127.0.0.1", FACTS["udp"])))
attempt("path", lambda: connect(socket.AF_UNIX, STREAM, folder + "/raylet"))
attempt("path datagram", lambda: connect(socket.AF_UNIX, DATAGRAM, folder + "/log"))
attempt("abstract", lambda: connect(socket.AF_UNIX, STREAM, name))
attempt("abstract datagram", lambda: connect(socket.AF_UNIX, DATAGRAM, name + "d"))
"""


def test_connections(walled: Arena, unwalled: Arena, servers: Servers) -> None:
    bites = unwalled.attack(CONNECTS, **servers.facts)
    assert not bites.refused()
    assert servers.visited() == list(servers.sockets)
    seen = walled.attack(CONNECTS, **servers.facts)
    seen.assert_all_refused(*servers.sockets)
    seen.assert_trained_honestly()
    assert servers.visited() == []


THROUGH_A_PAIR = """
import ctypes, socket
libc = ctypes.CDLL(None, use_errno=True)

def through(call, *arguments):
    if libc.syscall(call, *arguments) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

def pair(kind):
    one, other = socket.socketpair(socket.AF_UNIX, kind)
    one.settimeout(2)
    return one, other

def reconnect(kind):
    one, _ = pair(kind)
    one.connect(FACTS["folder"] + ("/raylet" if kind == socket.SOCK_STREAM else "/log"))
    one.send(b"secret")

def disconnect_and_send():
    one, _ = pair(socket.SOCK_DGRAM)
    through(42, one.fileno(), b"\\0" * 16, 16)  # connect to AF_UNSPEC
    one.sendto(b"secret", FACTS["folder"] + "/log")

attempt("sendto from a pair", lambda: pair(socket.SOCK_DGRAM)[0].sendto(b"secret", FACTS["folder"] + "/log"))
attempt("sendmsg from a pair", lambda: pair(socket.SOCK_DGRAM)[0].sendmsg([b"secret"], [], 0, FACTS["folder"] + "/log"))
attempt("abstract from a pair", lambda: pair(socket.SOCK_DGRAM)[0].sendto(b"s", "\\0" + FACTS["abstract"] + "d"))
attempt("datagram pair connects", lambda: reconnect(socket.SOCK_DGRAM))
attempt("pair disconnects and sends", disconnect_and_send)
attempt("pair binds a name", lambda: pair(socket.SOCK_DGRAM)[0].bind("\\0variant-was-here"))
attempt("TCP fast open", lambda: socket.socket(2, 1).sendto(b"secret", 0x20000000, ("127.0.0.1", FACTS["tcp"])))
attempt("internet pair", lambda: socket.socketpair(socket.AF_INET, socket.SOCK_STREAM))
"""


def test_a_pair_of_sockets_is_no_way_out(walled: Arena, unwalled: Arena, servers: Servers) -> None:
    """socketpair() is allowed, so what can be done with one end of it must be harmless."""
    assert {"sendto from a pair", "datagram pair connects"} <= set(
        unwalled.attack(THROUGH_A_PAIR, **servers.facts).done()
    )
    assert servers.visited() == ["tcp", "path datagram", "abstract datagram"]
    servers.forget()
    seen = walled.attack(THROUGH_A_PAIR, **servers.facts)
    seen.assert_trained_honestly()
    assert servers.visited() == []
    seen.assert_all_refused("sendto from a pair", "abstract from a pair", "pair disconnects and sends")


FAMILIES = """
import ctypes, socket
libc = ctypes.CDLL(None, use_errno=True)

def make(family, kind, protocol=0):
    with socket.socket(family, kind, protocol):
        return "a socket"

for name, family, kind, protocol in (
    ("inet6", socket.AF_INET6, socket.SOCK_STREAM, 0), ("raw", socket.AF_INET, socket.SOCK_RAW, 1),
    ("packet", socket.AF_PACKET, socket.SOCK_RAW, 0), ("netlink", socket.AF_NETLINK, socket.SOCK_RAW, 0),
    ("uevents", socket.AF_NETLINK, socket.SOCK_RAW, 15), ("vsock", socket.AF_VSOCK, socket.SOCK_STREAM, 0),
    ("crypto", socket.AF_ALG, socket.SOCK_SEQPACKET, 0), ("seqpacket", socket.AF_UNIX, socket.SOCK_SEQPACKET, 0),
    ("xdp", 44, socket.SOCK_RAW, 0), ("mptcp", socket.AF_INET, socket.SOCK_STREAM, 262),
):
    attempt(name, lambda: make(family, kind, protocol))
attempt("listen", lambda: socket.create_server(("127.0.0.1", 0)))
attempt("DNS", lambda: socket.getaddrinfo("localhost.localdomain", 80))
"""

PROGRAMS = """
import subprocess
port = FACTS["tcp"]
for name, command in (
    ("bash", ["bash", "-c", f"echo secret > /dev/tcp/127.0.0.1/{port}"]),
    ("python", [sys.executable, "-c", f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)"]),
    ("http", [sys.executable, "-c", f"import urllib.request as u; u.urlopen('http://127.0.0.1:{port}', timeout=2)"]),
):
    attempt(name, lambda: subprocess.run(command, check=True, stderr=subprocess.DEVNULL, timeout=20) and "reached")
"""


def test_every_family(walled: Arena, unwalled: Arena) -> None:
    assert {"inet6", "netlink", "listen"} <= set(unwalled.attack(FAMILIES).done())
    seen = walled.attack(FAMILIES)
    seen.assert_all_refused("inet6", "netlink", "vsock", "crypto", "listen", "DNS")
    seen.assert_trained_honestly()


def test_programs_that_it_starts(walled: Arena, unwalled: Arena, servers: Servers) -> None:
    assert {"bash", "python"} <= set(unwalled.attack(PROGRAMS, **servers.facts).done())
    assert servers.visited() == ["tcp"]
    servers.forget()
    seen = walled.attack(PROGRAMS, **servers.facts)
    seen.assert_all_refused("bash", "python", "http")
    seen.assert_trained_honestly()
    assert servers.visited() == []
