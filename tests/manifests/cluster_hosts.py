"""Two machines with addresses of their own, as network namespaces of this one."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from prunepeft_ray.waiting import poll

NAMES = ("head", "worker")
NETWORK = "10.213.77"


class Host:
    """A network namespace that reaches only its peer."""

    def __init__(self, name: str, namespace: str, folder: Path):
        self.name = name
        self.namespace = namespace
        self.folder = folder

    def command(self, arguments: Sequence[str]) -> list[str]:
        """The command line that runs a command on this host."""
        return ["ip", "netns", "exec", self.namespace, *arguments]

    def environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        """A new machine's environment, with temporary folders of the test's own."""
        # not resolved: beside the link lie the commands of the virtual environment
        commands = Path(sys.executable).parent
        temporary = self.folder / self.name
        temporary.mkdir(exist_ok=True)
        return {
            "PATH": f"{commands}:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.folder),
            "RAY_TMPDIR": str(temporary),
            **extra,
        }

    def start(self, arguments: Sequence[str], extra: Mapping[str, str], log: str) -> subprocess.Popen[bytes]:
        """Start a command on this host; what it prints goes to a file of the test's folder."""
        with (self.folder / log).open("wb") as output:
            return subprocess.Popen(
                self.command(arguments),
                env=self.environment(extra),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, arguments: Sequence[str], extra: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Run a command on this host to its end."""
        return subprocess.run(
            self.command(arguments),
            env=self.environment(extra),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def keeps_up(self, arguments: Sequence[str], extra: Mapping[str, str], check: Sequence[str]) -> bool:
        """Start a command, and again whenever it ends as a container would, until a check succeeds; whether it does."""
        log = f"{self.name}.log"
        process = self.start(arguments, extra, log)

        def is_up() -> bool:
            nonlocal process
            if self.run(check, extra).returncode == 0:
                return True
            if process.poll() is not None:
                process = self.start(arguments, extra, log)
            return False

        return poll(is_up, 120, 0.5)

    def printed(self, log: str) -> str:
        """What a started command has printed so far."""
        return (self.folder / log).read_text(errors="replace")

    def processes(self) -> list[int]:
        """The processes of this host."""
        return [int(number) for number in _ip("netns", "pids", self.namespace).stdout.split()]

    def end(self) -> None:
        """End every process of this host, and the host."""
        while processes := self.processes():
            for process in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.1)
        _ip("netns", "delete", self.namespace)
        shutil.rmtree(Path("/etc/netns") / self.namespace, ignore_errors=True)


def _ip(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True)


@contextlib.contextmanager
def connected_hosts() -> Iterator[tuple[Host, Host]]:
    """Two hosts, `head` and `worker`, that know each other by name; the test is skipped where there can be none."""
    mark = uuid.uuid4().hex[:8]
    # short, since Ray's sockets lie in it
    folder = Path(tempfile.mkdtemp(prefix="pp", dir="/tmp"))
    hosts = tuple(Host(name, f"pp-{mark}-{name}", folder) for name in NAMES)
    try:
        _connect(hosts, mark)
        yield hosts  # type: ignore[misc]
    finally:
        for host in hosts:
            host.end()
        shutil.rmtree(folder, ignore_errors=True)


def _connect(hosts: Sequence[Host], mark: str) -> None:
    if not shutil.which("ip"):
        pytest.skip("needs `ip netns`")
    for number, host in enumerate(hosts, start=1):
        made = _ip("netns", "add", host.namespace)
        if made.returncode:
            pytest.skip(f"needs network namespaces: {made.stderr.strip()}")
        names = Path("/etc/netns") / host.namespace / "hosts"
        names.parent.mkdir(parents=True)
        names.write_text(
            "127.0.0.1 localhost\n" + "".join(f"{NETWORK}.{i} {h}\n" for i, h in enumerate(NAMES, start=1))
        )
        _ip("-n", host.namespace, "link", "set", "lo", "up")
        if number == 1:
            continue
        ends = [f"pp{mark}{i}" for i in (1, 2)]
        _ip(
            "link",
            "add",
            ends[0],
            "netns",
            hosts[0].namespace,
            "type",
            "veth",
            "peer",
            "name",
            ends[1],
            "netns",
            host.namespace,
        )
        for end, owner, last in zip(ends, hosts, (1, 2), strict=True):
            _ip("-n", owner.namespace, "address", "add", f"{NETWORK}.{last}/24", "dev", end)
            _ip("-n", owner.namespace, "link", "set", end, "up")
            # a default route, since Ray asks the system which address the world would see
            _ip("-n", owner.namespace, "route", "add", "default", "dev", end)
