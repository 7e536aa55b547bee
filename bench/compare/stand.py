"""Where the comparison runs: a network of its own, processes on fixed cores, and what they used."""

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROXY_CORE, LOAD_CORE = 0, 1
# Set in the process that runs inside the network namespace.
INSIDE = "YATAGARASU_COMPARE_INSIDE"
START_SECONDS_MAX = 30
STOP_SECONDS_MAX = 10
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def end_by_signals():
    """Lets SIGTERM and SIGHUP end the script as Ctrl-C does, so that what it started and wrote goes too.

    One that is ignored (nohup) stays so, and a second one does not stop the cleaning up.
    """
    numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) != signal.SIG_IGN]

    def end(number, _):
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        sys.exit(128 + number)

    for number in numbers:
        signal.signal(number, end)


def at_least(least):
    """The type of an option that is a whole number."""
    def number(text):
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"{text} is less than {least}")
        return int(text)

    return number


def program(text):
    """The type of an option that names a program by its path."""
    if not (os.path.isfile(text) and os.access(text, os.X_OK)):
        raise argparse.ArgumentTypeError(f"{text} is not a program")
    return text


def build(name, *what):
    """Builds a program, and says where cargo put it: CARGO_TARGET_DIR and others decide."""
    argv = ["cargo", "build", "--locked", *what, name, "--message-format=json-render-diagnostics"]
    done = subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)} failed")
    messages = map(json.loads, done.stdout.splitlines())
    return next(m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == name)


def enter_own_network():
    """Runs this script again inside a network namespace that ends with it (root only).

    Loopback there carries nobody else's traffic, and its settings can be fixed: reno, because bbr
    paces with timers, whose cost lands on whoever happens to run.
    """
    if os.environ.get(INSIDE) or os.geteuid() != 0 or not shutil.which("unshare"):
        return
    os.environ[INSIDE] = "1"
    os.execvp("unshare", ["unshare", "--net", "--", sys.executable, *sys.argv])


def prepare_network():
    """Whether this is a network of our own, made ready."""
    if not os.environ.get(INSIDE):
        return False
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for name, value in (("ipv4/tcp_congestion_control", "reno"), ("core/somaxconn", "4096")):
        with contextlib.suppress(OSError):
            Path("/proc/sys/net", name).write_text(value, encoding="ascii")
    return True


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Process:
    """A program with all its children, on given cores."""

    def __init__(self, name, argv, cores, log, environment=None):
        self.name, self.log = name, Path(log)
        with self.log.open("wb") as stderr:
            self.popen = subprocess.Popen(
                ["taskset", "-c", cores, *map(str, argv)],
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                start_new_session=True,
                env={**os.environ, **(environment or {})},
            )

    def pids(self):
        found, unseen = [], [self.popen.pid]
        while unseen:
            pid = unseen.pop()
            found.append(pid)
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                with contextlib.suppress(OSError):
                    unseen += map(int, task.read_text().split())
        return found

    def cpu_seconds(self):
        """User and system time of all its processes so far."""
        user = system = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
                user, system = user + int(fields[11]), system + int(fields[12])
        return user / TICKS_PER_SECOND, system / TICKS_PER_SECOND

    def resident_bytes(self):
        """Resident memory of all its processes. Kernel memory (socket buffers, pipes) is not in it."""
        pages = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * PAGE_BYTES

    def wait_listening(self, port):
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline and self.popen.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                return
            time.sleep(0.02)
        raise SystemExit(f"{self.name} does not listen:\n{self.said()}")

    def said(self):
        return self.log.read_text(encoding="utf-8", errors="replace")[-2000:]

    def stop(self):
        if self.popen.poll() is None:
            os.killpg(self.popen.pid, signal.SIGTERM)
            try:
                self.popen.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                os.killpg(self.popen.pid, signal.SIGKILL)
                self.popen.wait()
