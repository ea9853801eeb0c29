from __future__ import annotations

import functools
import importlib.metadata
import os
import sys
import sysconfig
from pathlib import Path

import pytest

from autoresearch_ray.training.sandbox import namespaces, readable

CORPUS = ("ray", "litellm", "pyarrow", "openai", "botocore", "scipy", "aiohttp", "matplotlib", "pydantic", "rich")


@functools.lru_cache
def resolved(roots: tuple[str, ...]) -> frozenset[str]:
    return frozenset(map(os.path.realpath, roots))


def covered(path: str, roots: tuple[str, ...]) -> bool:
    real = Path(os.path.realpath(path))
    return any(str(place) in resolved(roots) for place in (real, *real.parents))


def test_a_folder_is_covered_but_for_what_is_shut(tmp_path: Path) -> None:
    for folder in ("a/b/shut", "a/c", "a/b/d"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "a" / "link").symlink_to(tmp_path / "a" / "b" / "shut")
    shut = str(tmp_path / "a" / "b" / "shut")
    assert sorted(readable.without(str(tmp_path / "a"), [shut])) == [
        str(tmp_path / "a" / "b" / "d"),
        str(tmp_path / "a" / "c"),
    ]
    assert readable.without(str(tmp_path / "a" / "c"), [shut]) == [str(tmp_path / "a" / "c")]
    assert readable.without(shut, [shut]) == readable.without(str(tmp_path / "a" / "link"), [shut]) == []
    assert readable.without(shut + "/deeper", [shut]) == []


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_variant_reads_what_runs_it_and_nothing_of_the_corpus(device: str) -> None:
    access = readable.access(device)  # type: ignore[arg-type]
    for needed in (os.__file__, sysconfig.get_path("include"), readable.importlib.metadata.__file__):
        assert covered(needed, access.read), needed
    import numpy
    import torch

    assert covered(torch.__file__, access.read)
    assert covered(numpy.__file__, access.read)
    for name in CORPUS:
        for file in (importlib.metadata.files(name) or [])[:50]:
            place = str(file.locate())
            if "/bin/" not in place:
                assert not covered(place, access.read), place
        assert name in access.hidden
    assert {"torch", "numpy", "sympy", "typing_extensions"}.isdisjoint(access.hidden)
    for secret in (Path.home(), Path.home() / ".ssh", "/etc/passwd", "/etc/shadow", "/tmp", "/proc/1", "/root"):
        assert not covered(str(secret), access.read), secret
    for folder in access.listed:
        assert not covered(folder, access.read) or folder == os.path.realpath(sysconfig.get_path("stdlib"))


def test_what_a_person_lists_is_readable(tmp_path: Path) -> None:
    assert str(tmp_path) in readable.access("cpu", [tmp_path]).read


def test_a_command_brings_its_virtual_environment(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "pyvenv.cfg").touch()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    access = readable.access("cpu", command=str(tmp_path / "bin" / "python"))
    assert str(tmp_path) in access.read
    assert covered(os.path.realpath(sys.executable), access.read)


def test_distributions_bring_what_they_require() -> None:
    assert {"torch", "numpy", "sympy", "mpmath", "jinja2", "markupsafe"} <= set(readable.closure(readable.ROOTS))
    assert readable.closure(["no-such-distribution"]) == ()
    assert {"hypothesis", "pytest"}.isdisjoint(readable.closure(readable.ROOTS))


def test_the_imports_of_a_program_name_its_distributions() -> None:
    sources = ["import yaml.nodes, os\nfrom scipy.special import erf\nfrom . import x", "not python at all ("]
    assert readable.imported(sources) == ("PyYAML", "scipy")


@pytest.mark.parametrize(("listed", "shown"), [("data", True), ("data/rows", True), (".", True), ("other", False)])
def test_what_is_scored_on_must_not_be_readable(tmp_path: Path, listed: str, shown: bool) -> None:
    for folder in ("data/rows", "other"):
        (tmp_path / folder).mkdir(parents=True)
    found = readable.overlap([tmp_path / "nowhere", tmp_path / listed], tmp_path / "data")
    assert (found == tmp_path / listed) is shown


def test_folders_in_the_way_of_another_identity_are_found(tmp_path: Path) -> None:
    inner = tmp_path / "shut" / "open" / "file"
    inner.parent.mkdir(parents=True)
    inner.touch()
    tmp_path.chmod(0o711)
    (tmp_path / "shut").chmod(0o700)
    other = os.getuid() + 1
    ways = [place for place in tmp_path.parents if not place.stat().st_mode & 0o001 and place.stat().st_uid != other]
    expected = ways[-1] if ways else tmp_path / "shut"
    assert namespaces.blocked([inner], other) == {expected: [inner]}
    (tmp_path / "shut").chmod(0o711)
    assert namespaces.blocked([inner], other) == ({expected: [inner]} if ways else {})
