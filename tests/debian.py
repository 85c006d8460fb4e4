"""
Debian's programs that tests run beside the project's: Alertmanager, Prometheus, Chromium.

A program is taken from PATH or /usr/bin, then from `.cache/debian/`, where an earlier call
unpacked it, then from its package, which needs no root: `apt-get download` and `dpkg-deb -x`.
`tree` unpacks a package with all that it depends on beside it, for programs that need libraries.
Chromium needs more than that; it is installed, if we are root.
Data that a program reads from a fixed place under /usr/share is copied there, if we are root.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "debian"
PLACES = ("usr/bin", "usr/sbin", "usr/local/bin", "bin")
INSTALLED = frozenset({"chromium", "chromium-driver"})  # packages that need their libraries
DATA = ("usr/share/prometheus",)  # of a package: what its program reads from there
DOWNLOAD_S, INSTALL_S = 120, 400


def program(name: str, package: str) -> Path:
    """The path of *name*, which Debian's *package* contains; skips the test if it is not found."""
    found = on_this_machine(name) or unpacked(name)
    if found is not None:
        place_data()
        return found
    with lock():  # several test processes may need it at once
        why = fetched(package)
    found = on_this_machine(name) or unpacked(name)
    if found is None:
        pytest.skip(f"{name} of Debian's {package} is not available: {why}")
    place_data()
    return found


@dataclass(frozen=True, slots=True)
class Tree:
    """Packages with all that they depend on, unpacked or installed."""

    roots: tuple[Path, ...]

    def path(self, inside: str) -> Path:
        """A file of the packages, as `usr/sbin/collectd`; skips the test if it is not there."""
        for root in (*self.roots, Path("/")):
            if (root / inside).exists():
                return root / inside
        pytest.skip(f"{inside} is in none of the packages")

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment in which a program finds the libraries."""
        found = [str(path) for root in self.roots for path in (root / "usr/lib", root / "lib")
                 for path in (path, *path.glob("*-linux-gnu"))]  # fmt: skip
        before = os.environ.get("LD_LIBRARY_PATH")
        return os.environ | {"LD_LIBRARY_PATH": ":".join([*found, *([before] if before else [])])}


def tree(*packages: str) -> Tree:
    """Debian's *packages* with what they depend on; skips the test if they cannot be fetched."""
    with lock():
        needed, why = missing(*packages)
        for package in needed if not why else ():
            why = why or fetched(package)
    if why:
        pytest.skip(f"{' and '.join(packages)} of Debian are not available: {why}")
    return Tree(tuple(CACHE / f"{package}.root" for package in needed))


@functools.cache
def missing(*packages: str) -> tuple[tuple[str, ...], str]:
    """*packages* and what they depend on, as far as it is not installed; or why that is unknown."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return (), "there is no apt-get on this machine"
    simulate = ["apt-get", "-s", "-qq", "--no-install-recommends", "install", *packages]
    done = subprocess.run(simulate, check=False, capture_output=True, text=True)
    if done.returncode and os.geteuid() == 0:
        quietly(["apt-get", "update", "-qq"], DOWNLOAD_S)
        done = subprocess.run(simulate, check=False, capture_output=True, text=True)
    if done.returncode:
        return (), (done.stderr.strip().splitlines() or ["apt-get failed"])[-1]
    lines = (line.split() for line in done.stdout.splitlines())
    return tuple(words[1] for words in lines if words[:1] == ["Inst"]), ""


def on_this_machine(name: str) -> Path | None:
    """The program on PATH or in /usr/bin."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/bin")
    return None if found is None else Path(found)


def unpacked(name: str) -> Path | None:
    """The program in an unpacked package."""
    for root in sorted(CACHE.glob("*.root")):
        for place in PLACES:
            if os.access(root / place / name, os.X_OK):
                return root / place / name
    return None


def place_data() -> None:
    """Copy data of unpacked packages to where their programs look for it; skips without rights."""
    for root in CACHE.glob("*.root"):
        for place in DATA:
            for source in (root / place).glob("*/*"):
                at = Path("/") / source.relative_to(root)
                if at.exists() or not source.is_file():
                    continue
                try:
                    at.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(source, at)
                except OSError as error:
                    pytest.skip(f"a program of Debian needs {at}: {error}")


@functools.cache
def fetched(package: str) -> str:
    """Unpack or install *package*; returns why that failed, empty if it did not."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return "there is no apt-get on this machine"
    if package in INSTALLED:
        return installed(package)
    if (CACHE / f"{package}.root").exists():
        return ""  # another process was quicker
    why = unpack(package)
    if why and os.geteuid() == 0:  # perhaps the package lists are missing or old
        quietly(["apt-get", "update", "-qq"], DOWNLOAD_S)
        why = unpack(package)
    return why


def unpack(package: str) -> str:
    """Download *package* and unpack it into the cache; returns why that failed."""
    with tempfile.TemporaryDirectory(dir=CACHE) as at:
        folder = Path(at)
        why = quietly(["apt-get", "download", "-qq", package], DOWNLOAD_S, folder)
        archives = sorted(folder.glob("*.deb"))
        if why or not archives:
            return why or "apt-get download brought no archive"
        root = folder / "root"
        why = quietly(["dpkg-deb", "-x", str(archives[0]), str(root)], DOWNLOAD_S)
        if not why:
            root.rename(CACHE / f"{package}.root")
        return why


def installed(package: str) -> str:
    """Install *package* with its libraries; returns why that failed."""
    if os.geteuid() != 0:
        return "only root can install it"
    install = ["apt-get", "install", "-yqq", "--no-install-recommends", package]
    if not quietly(install, INSTALL_S):
        return ""
    quietly(["apt-get", "update", "-qq"], DOWNLOAD_S)
    return quietly(install, INSTALL_S)


def quietly(command: Sequence[str], limit_s: float, folder: Path | None = None) -> str:
    """Run *command*; returns the last line of what it printed if it failed, else nothing."""
    environ = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command, check=False, cwd=folder, env=environ, capture_output=True, timeout=limit_s
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return ""
    lines = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"{command[0]} exited {done.returncode}"


@contextlib.contextmanager
def lock() -> Iterator[None]:
    """One process at a time fetches packages."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
