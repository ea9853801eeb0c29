"""Each promise, each wall: what gets through when a wall is missing is seen, and all that stands holds."""

from __future__ import annotations

from typing import Any

import pytest
from sandbox_runs import EVERYBODY, LINUX, ORDINARY, told, users

from autoresearch_ray.training.sandbox.promises import PROMISES, judge

pytestmark = LINUX

PROBE = """
made = walls.build(plan())
missing = dict(made.missing)
for wall in {without}:
    made.missing[wall] = "taken away"
if "scratch" in made.missing and made._pen is not None:
    walls._drop_view(made, "taken away")
if {refilter}:
    walls._choose_filter(made)
found = probe.probe(made, tuple(os.environ), launcher._keep_descriptors)
made.close()
tell([missing, found, os.listdir(folder), processes.descendants(os.getpid())])
"""


def probed(user: int | None, *without: str, refilter: bool = True) -> tuple[dict[str, str], dict[str, list[str]]]:
    missing, found, left, alive = told(PROBE.format(without=without, refilter=refilter), user)
    assert left == []
    assert alive == []
    return missing, {name: acts for name, acts in found.items() if acts}


@EVERYBODY
def test_every_promise_holds_here(user: int | None) -> None:
    missing, found = probed(user)
    assert found == {}
    assert set(missing) <= {"group"}  # an ordinary user may have none


@EVERYBODY
@pytest.mark.parametrize(
    ("wall", "broken"),
    [
        ("landlock", {"reading", "inspection"}),
        ("seccomp", {"kernel", "shared_memory", "network", "local_sockets"}),
        ("scratch", {"disk"}),
        ("limits", {"descriptors"}),
    ],
)
def test_a_missing_wall_is_noticed(user: int | None, wall: str, broken: set[str]) -> None:
    _, found = probed(user, wall)
    assert broken <= set(found)
    assert {"ending", "environment"}.isdisjoint(found)


@EVERYBODY
def test_without_mounts_the_filter_keeps_metadata_as_they_are(user: int | None) -> None:
    assert "metadata" not in probed(user, "scratch")[1]


@pytest.mark.skipif(ORDINARY not in users(), reason="needs root, to become an ordinary user")
def test_without_mounts_and_without_their_stand_in_metadata_change() -> None:
    """Of files that everybody may write; all that is ours could be changed by ourselves."""
    assert "metadata" in probed(ORDINARY, "scratch", "seccomp")[1]


def test_without_any_wall_everything_gets_through() -> None:
    walls = ("group", "limits", "namespaces", "scratch", "identity", "landlock", "seccomp")
    _, found = probed(None, *walls)
    assert {"reading", "writing", "network", "local_sockets", "signals", "inspection", "kernel"} <= set(found)
    assert {"shared_memory", "scheduling", "privileges", "disk", "descriptors"} <= set(found)


INSIDE = """
made = walls.build(plan())
(folder / "scratch").mkdir(); (folder / "scratch" / "train.py").write_text("text")
(folder / "scratch" / "sub").mkdir(); (folder / "scratch" / "sub" / "x").symlink_to("../train.py")
def act():
    os.utime("train.py", (1, 1)); os.chmod("train.py", 0o700); Path("new").write_text("y"); os.link("new", "newer")
    with open("large", "wb") as held:
        os.unlink("large")
        deleted = refusal(lambda: os.posix_fallocate(held.fileno(), 0, 15 << 20))
        full = refusal(lambda: Path("more").write_bytes(bytes(4 << 20)))
    shared = refusal(lambda: open("/dev/shm/mine", "x").close())
    many = refusal(lambda: [open(f"f{i}", "x").close() for i in range(600)])
    device = refusal(lambda: os.utime("/dev/null"))
    return [Path("sub/x").read_text(), os.getuid(), deleted, full, many, shared, device, os.getcwd()]
seen = inside(made, act)
made.close()
tell([seen, os.getuid(), os.listdir(folder / "scratch"), str(folder / "scratch"), os.path.exists("/dev/shm/mine")])
"""


@EVERYBODY
def test_the_scratch_folder_is_the_variants_own_and_bounded(user: int | None) -> None:
    seen, uid, outside, scratch, leaked = told(INSIDE, user)
    text, inner, deleted, full, many, shared, device, where = seen
    assert text == "text"
    assert (inner != uid) == (uid == 0)
    assert (deleted, full, many) == ("done", "OSError", "OSError")  # deleted files that are open count, and all names
    assert (shared, leaked) == ("done", False)
    assert device in ("OSError", "PermissionError")
    assert where == scratch
    assert sorted(outside) == ["sub", "train.py"]  # nothing that it made is seen outside


TWICE = """
first, second = walls.build(plan()), walls.build(plan())
tell([first.uid, second.uid, first.missing, second.missing])
"""


@EVERYBODY
def test_two_slots_never_have_the_same_identity(user: int | None) -> None:
    first, second, missing, also = told(TWICE, user)
    if user is None and first is not None:
        assert first != second
        assert min(first, second) >= 61_184
    else:
        assert first is second is None
    assert "identity" not in {**missing, **also}


MANY = """
made = walls.build(plan())
before = len(os.listdir("/proc/self/fd"))
uses = [inside(made, lambda: refusal(lambda: open("x", "w").close())) for _ in range(150)]
tell([sorted(set(uses)), len(os.listdir("/proc/self/fd")) - before])
"""


@EVERYBODY
def test_one_slots_walls_serve_many_children(user: int | None) -> None:
    assert told(MANY, user) == [["done"], 0]


def test_what_broke_is_said_with_its_remedy() -> None:
    promises = judge(
        {"reading": ["read a", "read b", "read c", "read d"]}, {"landlock": "switched off"}, list(PROMISES)[:2]
    )
    reading, writing = promises
    assert (reading.held, reading.by) == (False, ("identity",))
    assert reading.why_not == "a variant read a, read b, read c, ...; landlock: switched off"
    assert "lsm=landlock" in reading.remedy
    assert (writing.held, writing.why_not, writing.remedy) == (True, "", "")
    assert reading.says == PROMISES["reading"]


def test_every_promise_has_walls_and_words() -> None:
    everything: dict[str, Any] = {name: ["got through"] for name in PROMISES if name != "gpu_memory"}
    for promise in judge(everything, {}, list(everything)):
        assert not promise.held
        assert promise.why_not
