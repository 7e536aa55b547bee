"""What is measured. Each function returns plain values for the JSON file, raw samples included."""

import contextlib
import json
import os
import select
import socket
import subprocess
import time
from pathlib import Path

from proxies import bearer
from stand import LOAD_CORE, Process, free_port

# Of "1k-each" every request asks for another object.
OBJECT_BYTES = {"1k": 1 << 10, "1k-each": 1 << 10, "64k": 64 << 10, "1m": 1 << 20, "10m": 10 << 20, "100m": 100 << 20}
# From this size on, responses are counted by their bytes, so that those that are under way when a turn
# ends count for their part.
COUNTED_BY_BYTES = 1 << 20
WARM_UP_SECONDS = 1
# CPU time is counted in ticks of 10 ms: a turn with fewer than ten of them says nothing.
# That happens where others have the cores; they are waited for, a while.
TURN_CPU_SECONDS_MIN, ATTEMPTS_MAX, PAUSE_SECONDS = 0.1, 20, 3
STREAMS, STREAM_SECONDS = 256, 5
IDLE_CONNECTIONS, IDLE_SECONDS = 1000, 3
SCALING_LOADS = (("1k", 64), ("64k", 32))
START_BUCKETS, START_REPEATS = (10, 10_000), 5
HERE = Path(__file__).resolve().parent


class Target:
    """A running proxy, or its protected bucket, as the load sees it."""

    def __init__(self, name, process, port, protected=False):
        self.name, self.process, self.port = name, process, port
        self.prefix = "/private" if protected else "/bench"
        self.headers = {"Authorization": bearer()} if protected else {}

    def turn(self, size, connections, seconds):
        """One turn of load, and what it cost the proxy; again if the machine let it do next to nothing."""
        for _ in range(ATTEMPTS_MAX):
            load, user, system = self.try_turn(size, connections, seconds)
            if self.process.popen.poll() is not None:
                raise SystemExit(f"{self.name} has ended:\n{self.process.said()}")
            answers = load["requests"]
            if OBJECT_BYTES[size] >= COUNTED_BY_BYTES:
                answers = load["bytes"] / OBJECT_BYTES[size]
            if answers and user + system >= TURN_CPU_SECONDS_MIN:
                break
            print(f"again: {self.name} used {user + system:.2f} s of CPU time for {answers:.0f} responses in {seconds} s", flush=True)
            time.sleep(PAUSE_SECONDS)
        else:
            raise SystemExit(f"{self.name} gets no work done at {size}:{connections}:\n{self.process.said()}")
        return {
            "answers": answers,
            "bytes": load["bytes"],
            "seconds": load["us"] / 1e6,
            "user_us": user * 1e6 / answers,
            "system_us": system * 1e6 / answers,
            "p50_ms": load["p50_us"] / 1e3,
            "p99_ms": load["p99_us"] / 1e3,
            "errors": load["errors"],
        }

    def try_turn(self, size, connections, seconds):
        """What wrk reports, and the user and system time of the proxy meanwhile, in seconds."""
        argv = ["taskset", "-c", str(LOAD_CORE), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s"]
        for name, value in self.headers.items():
            argv += ["-H", f"{name}: {value}"]
        script = HERE / ("each.lua" if size.endswith("-each") else "report.lua")
        argv += ["-s", script, f"http://127.0.0.1:{self.port}{self.prefix}/{size}"]
        before = self.process.cpu_seconds()
        environment = {**os.environ, "COMPARE_LIBRARY": str(HERE)}
        done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, check=False, env=environment)
        after = self.process.cpu_seconds()
        said = [line for line in done.stdout.splitlines() if line.startswith("{")]
        if not said:
            raise SystemExit(f"wrk failed on {self.name}:\n{done.stdout}{done.stderr}{self.process.said()}")
        return json.loads(said[-1]), after[0] - before[0], after[1] - before[1]


def take_turns(targets, size, connections, rounds, seconds):
    """Samples by name; A B C A B C, so that a change in the machine's speed meets everybody."""
    samples = {target.name: [] for target in targets}
    for target in targets:
        target.turn(size, connections, WARM_UP_SECONDS)
    for _ in range(rounds):
        for target in targets:
            samples[target.name].append(target.turn(size, connections, seconds))
    return samples


def _request(target, size):
    fields = [f"GET {target.prefix}/{size} HTTP/1.1", "Host: compare"]
    fields += [f"{name}: {value}" for name, value in target.headers.items()]
    return "\r\n".join([*fields, "", ""]).encode()


def _connect(target):
    return socket.create_connection(("127.0.0.1", target.port), timeout=30)


def _ask(connection, request, body_bytes):
    """Reads one response whole."""
    connection.sendall(request)
    received, wanted = bytearray(), None
    while wanted is None or len(received) < wanted:
        chunk = connection.recv(65_536)
        if not chunk:
            raise OSError("closed early")
        received += chunk
        if wanted is None and b"\r\n\r\n" in received:
            wanted = received.index(b"\r\n\r\n") + 4 + body_bytes
    if not received.startswith(b"HTTP/1.1 200"):
        raise OSError(f"answered {bytes(received[:80])!r}")


def streaming_memory(target):
    """Most resident bytes while many clients read large objects slowly, and before."""
    before = target.process.resident_bytes()
    most = before
    with contextlib.ExitStack() as stack:
        connections = []
        for _ in range(STREAMS):
            connections.append(stack.enter_context(_connect(target)))
            connections[-1].sendall(_request(target, "100m"))
        began, deadline = set(), time.monotonic() + STREAM_SECONDS
        while time.monotonic() < deadline:
            readable, _, _ = select.select(connections, [], [], 1)
            for connection in readable:
                if connection.recv(65_536):
                    began.add(connection)
            most = max(most, target.process.resident_bytes())
            # Slower than the origin sends, so that what a proxy buffers fills up.
            time.sleep(0.05)
        if len(began) < STREAMS:
            raise SystemExit(f"{target.name}: only {len(began)} of {STREAMS} streams began")
    return {"connections": STREAMS, "before_bytes": before, "most_bytes": most}


def idle_memory(target):
    """Resident bytes with many connections that have made a request each and are idle now."""
    before = target.process.resident_bytes()
    with contextlib.ExitStack() as stack:
        for _ in range(IDLE_CONNECTIONS):
            connection = stack.enter_context(_connect(target))
            _ask(connection, _request(target, "1k"), OBJECT_BYTES["1k"])
        time.sleep(IDLE_SECONDS)
        after = target.process.resident_bytes()
    return {"connections": IDLE_CONNECTIONS, "before_bytes": before, "after_bytes": after}


def start_seconds(kind, directory, origin_port, buckets, cores):
    """From starting the process to its first whole response from the origin."""
    port = free_port()
    launch = kind.launch(kind, directory, port, origin_port, 1, buckets)
    request = f"GET /bucket-{buckets - 1:05}/1k HTTP/1.1\r\nHost: compare\r\n\r\n".encode()
    began = time.monotonic()
    process = Process(kind.name, launch.argv, cores, f"{directory}/{kind.name}-{port}.log", launch.environment)
    try:
        while time.monotonic() - began < 60 and process.popen.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
                    _ask(connection, request, OBJECT_BYTES["1k"])
                return time.monotonic() - began
            except ConnectionRefusedError:
                time.sleep(0.000_5)
        raise SystemExit(f"{kind.name} does not start with {buckets} buckets:\n{process.said()}")
    finally:
        process.stop()
