"""What is requested of a proxy, and the programs that request it: wrk, and h2load where wrk cannot."""

import json
import math
import os
import re
import statistics
import subprocess
from dataclasses import dataclass
from pathlib import Path

OBJECT_BYTES = {"1k": 1 << 10, "64k": 64 << 10, "1m": 1 << 20, "10m": 10 << 20, "100m": 100 << 20}
# From this size on, responses are counted by their bytes, so that those that are under way when a turn
# ends count for their part.
COUNTED_BY_BYTES = 1 << 20
# Another object for each request, a connection for each, and a connection with a resumed TLS session for each.
KINDS = ("", "each", "close", "resume")
# At full speed, clients with a new connection each would take most of the time of their core for themselves
# and run out of ports. A turn of one second is still worth ten ticks of CPU time.
CONNECTIONS_PER_SECOND, TLS_CONNECTIONS_PER_SECOND = 5_000, 1_500
# h2load opens connections in groups: small ones.
GROUPS_PER_SECOND = 100
STREAMS_PER_CONNECTION = 10
HERE = Path(__file__).resolve().parent


class LoadFailed(Exception):
    """The program that makes the load reports nothing; with what it printed."""


@dataclass(frozen=True)
class Load:
    """SIZE[-KIND]:CONNECTIONS, as "1k:64" or "1k-each:64"."""

    size: str
    kind: str
    connections: int

    @classmethod
    def parse(cls, text):
        found = re.fullmatch(r"(\w+?)(?:-(\w+))?:([1-9]\d*)", text)
        if not found:
            raise ValueError(f"{text}: a load is SIZE:CONNECTIONS or SIZE-KIND:CONNECTIONS")
        size, kind, connections = found[1], found[2] or "", int(found[3])
        if size not in OBJECT_BYTES:
            raise ValueError(f"{text}: no such size; there are {', '.join(OBJECT_BYTES)}")
        if kind not in KINDS:
            raise ValueError(f"{text}: no such kind; there are {', '.join(filter(None, KINDS))}")
        if kind == "each" and size != "1k":
            raise ValueError(f"{text}: the objects of \"each\" have 1k")
        if kind and OBJECT_BYTES[size] >= COUNTED_BY_BYTES:
            raise ValueError(f"{text}: \"{kind}\" is for 1k and 64k, where a connection costs more than the object")
        return cls(size, kind, connections)

    @property
    def name(self):
        return f"{self.size}{self.kind and '-'}{self.kind}:{self.connections}"

    @property
    def bytes(self):
        return OBJECT_BYTES[self.size]

    def check(self, transport):
        """A ValueError where the transport does not allow it."""
        if transport.http2 and self.kind:
            raise ValueError(f"{self.name}: with --h2 there are only loads without \"-{self.kind}\"")
        if self.kind == "resume" and not transport.from_clients:
            raise ValueError(f"{self.name}: only sessions of TLS resume: add --tls client or both, or write {self.size}-close")

    def by_h2load(self, transport):
        """wrk speaks no HTTP/2, and resumes its TLS sessions whenever it can."""
        return transport.http2 or (self.kind == "close" and transport.from_clients)

    def run(self, target, core, seconds):
        """One turn: requests, bytes, microseconds in all, at p50 and at p99, and errors."""
        argv = ["taskset", "-c", str(core)]
        # Of the objects 1k-each-00000 and so on, the script appends the number.
        path = f"{target.prefix}/{self.size}{'-each' if self.kind == 'each' else ''}"
        url = target.transport.url(target.port, path)
        headers = []
        for name, value in target.headers.items():
            headers += ["-H", f"{name}: {value}"]
        program = _h2load if self.by_h2load(target.transport) else _wrk
        return program(self, target.transport, argv, [*headers, url], seconds)


def _wrk(load, transport, argv, request, seconds):
    argv = [*argv, "wrk", "-t1", f"-c{load.connections}", f"-d{seconds}s", "--timeout", "20s"]
    environment = {**transport.environment(), "COMPARE_LIBRARY": str(HERE)}
    script = "report.lua"
    if load.kind == "each":
        script = "each.lua"
    elif load.kind:
        rate = TLS_CONNECTIONS_PER_SECOND if transport.from_clients else CONNECTIONS_PER_SECOND
        script = "close.lua"
        environment["COMPARE_PAUSE_MS"] = str(math.ceil(load.connections * 1_000 / rate))
        argv += ["-H", "Connection: close"]
    argv += ["-s", str(HERE / script), *request]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)
    said = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not said:
        raise LoadFailed(f"wrk failed:\n{done.stdout}{done.stderr}")
    return json.loads(said[-1])


def _h2load(load, transport, argv, request, seconds):
    log = transport.directory / "h2load.log"
    argv = [*argv, "h2load", "-t1", f"--log-file={log}"]
    if transport.http2:
        expected = "h2"
        argv += [f"-c{load.connections}", f"-m{STREAMS_PER_CONNECTION}", "-D", str(seconds)]
    else:
        expected = "http/1.1"
        clients = str(TLS_CONNECTIONS_PER_SECOND * seconds)
        argv += ["--h1", "-n", clients, "-c", clients, "-r", str(TLS_CONNECTIONS_PER_SECOND // GROUPS_PER_SECOND),
                 "--rate-period", f"{1_000 // GROUPS_PER_SECOND}ms"]
    log.unlink(missing_ok=True)
    done = subprocess.run([*argv, *request], capture_output=True, text=True, check=False, env=transport.environment())
    took = re.search(r"^finished in ([\d.]+)(us|ms|s),", done.stdout, re.MULTILINE)
    counts = re.search(r"^requests: .* (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", done.stdout, re.MULTILINE)
    traffic = re.search(r"^traffic: \S+ \((\d+)\) total", done.stdout, re.MULTILINE)
    if not (took and counts and traffic) or f"Application protocol: {expected}" not in done.stdout:
        raise LoadFailed(f"h2load failed:\n{done.stdout}{done.stderr}")
    succeeded, *errors = map(int, counts.groups())
    # Start, status and duration of each request.
    durations = [int(line.split("\t")[2]) for line in log.read_text(encoding="ascii").splitlines()]
    percentiles = statistics.quantiles(durations, n=100, method="inclusive") if len(durations) > 1 else [0] * 99
    return {
        "requests": succeeded,
        "bytes": int(traffic[1]),
        "us": float(took[1]) * {"us": 1, "ms": 1e3, "s": 1e6}[took[2]],
        "p50_us": percentiles[49],
        "p99_us": percentiles[98],
        "errors": sum(errors),
    }
