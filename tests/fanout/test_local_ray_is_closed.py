"""A local Ray listens on the loopback address only, and refuses whoever has no token."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
import ray

pytestmark = pytest.mark.usefixtures("local_ray")
LISTENS = "0A"  # state of a socket in /proc/net/tcp


def listening(pid: int) -> set[str]:
    """Addresses on which a process accepts TCP connections, from /proc."""
    links = {link for link in (_target(file) for file in Path(f"/proc/{pid}/fd").glob("*")) if link}
    found = set()
    for name, size in (("tcp", 8), ("tcp6", 32)):
        for line in Path(f"/proc/{pid}/net/{name}").read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            address, inode = fields[1].split(":")[0], fields[9]
            if fields[3] == LISTENS and f"socket:[{inode}]" in links:
                found.add(_address(address[:size]))
    return found


def descendants(pid: int) -> set[int]:
    """The processes that a process has started, and those that they have started."""
    children: dict[int, list[int]] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended in the meantime
            parent = int(file.read_text(encoding="utf-8").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(file.parent.name))
    found = set(children.get(pid, ()))
    return found.union(*(descendants(child) for child in found))


def _target(file: Path) -> str | None:
    try:
        return str(file.readlink())
    except OSError:
        return None  # closed in the meantime


def _address(text: str) -> str:
    """An address of /proc/net: words of four bytes in the order of the machine, here little-endian."""
    words = bytes.fromhex(text)
    content = b"".join(words[place : place + 4][::-1] for place in range(0, len(words), 4))
    return str(IPv4Address(content) if len(content) == 4 else IPv6Address(content).ipv4_mapped or IPv6Address(content))


def test_every_process_of_a_local_ray_listens_on_loopback_only() -> None:
    def own_pid() -> int:  # here, so that the worker need not import this module
        return os.getpid()

    worker = ray.remote(own_pid)
    pids = {os.getpid(), ray.get(worker.remote()), *descendants(os.getpid())}
    by_program = set()
    for pid in pids:
        with suppress(FileNotFoundError):  # a helper of Ray may end between its name and its sockets
            program = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
            by_program |= {(program, address) for address in listening(pid)}
    assert {address for _, address in by_program} <= {"127.0.0.1", "::1"}, sorted(by_program)
    assert {program for program, _ in by_program} >= {"gcs_server", "raylet"}


@pytest.mark.soak
def test_only_a_driver_with_the_token_joins() -> None:
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    assert joins(os.environ["RAY_AUTH_TOKEN"], within=120)
    assert not joins("0" * 64, within=60)


def joins(token: str, *, within: int) -> bool:
    """Whether a driver with a token connects to the cluster in so many seconds; Ray tries again until then."""
    address = ray.get_runtime_context().gcs_address
    program = f"import ray; ray.init(address='{address}', log_to_driver=False); print('joined')"
    others = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    others["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # or Ray takes the machine's own address for 127.0.0.1
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**others, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token},
            capture_output=True,
            text=True,
            check=False,
            timeout=within,
        )
    except subprocess.TimeoutExpired:
        return False
    return "joined" in done.stdout
