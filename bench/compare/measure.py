"""What is measured. Each function returns plain values for the JSON file, raw samples included."""

import contextlib
import select
import time

from load import COUNTED_BY_BYTES, OBJECT_BYTES, Load, LoadFailed
from proxies import bearer
from stand import Process, free_port

WARM_UP_SECONDS = 1
# CPU time is counted in ticks of 10 ms: a turn with fewer than ten of them says nothing.
# That happens where others have the cores; they are waited for, a while.
TURN_CPU_SECONDS_MIN, ATTEMPTS_MAX, PAUSE_SECONDS = 0.1, 20, 3
STREAMS, STREAM_SECONDS = 256, 5
IDLE_CONNECTIONS, IDLE_SECONDS = 1000, 3
SCALING_LOADS = (Load("1k", "", 64), Load("64k", "", 32))
START_BUCKETS, START_REPEATS = (10, 10_000), 5


class Target:
    """A running proxy, or its protected bucket, as the load sees it."""

    def __init__(self, name, process, port, transport, protected=False):
        self.name, self.process, self.port, self.transport = name, process, port, transport
        self.prefix = "/private" if protected else "/bench"
        self.headers = {"Authorization": bearer()} if protected else {}

    def turn(self, load, core, seconds):
        """One turn of load, and what it cost the proxy; again if the machine let it do next to nothing."""
        for _ in range(ATTEMPTS_MAX):
            done, user, system = self.try_turn(load, core, seconds)
            answers = done["requests"]
            if load.bytes >= COUNTED_BY_BYTES:
                answers = done["bytes"] / load.bytes
            if answers and user + system >= TURN_CPU_SECONDS_MIN:
                break
            print(f"again: {self.name} used {user + system:.2f} s of CPU time for {answers:.0f} responses in {seconds} s", flush=True)
            time.sleep(PAUSE_SECONDS)
        else:
            raise SystemExit(f"{self.name} gets no work done at {load.name}:\n{self.process.said()}")
        return {
            "answers": answers,
            "bytes": done["bytes"],
            "seconds": done["us"] / 1e6,
            "user_us": user * 1e6 / answers,
            "system_us": system * 1e6 / answers,
            "p50_ms": done["p50_us"] / 1e3,
            "p99_ms": done["p99_us"] / 1e3,
            "errors": done["errors"],
        }

    def churn_turn(self, churn, core, seconds):
        """One turn of connections that come and go, and what each of them cost the proxy."""
        done, user, system = self.try_turn(churn, core, seconds)
        if done["errors"]:
            print(f"{self.name}: {done['said']}", flush=True)
        connections = max(done["connections"], 1)
        return {**done, "user_us": user * 1e6 / connections, "system_us": system * 1e6 / connections}

    def try_turn(self, load, core, seconds):
        """What the load reports, and the user and system time of the proxy meanwhile, in seconds."""
        before = self.process.cpu_seconds()
        try:
            done = load.run(self, core, seconds)
        except LoadFailed as failed:
            raise SystemExit(f"{load.name} of {self.name}: {failed}\n{self.process.said()}") from failed
        after = self.process.cpu_seconds()
        if self.process.popen.poll() is not None:
            raise SystemExit(f"{self.name} has ended:\n{self.process.said()}")
        return done, after[0] - before[0], after[1] - before[1]


def take_turns(targets, load, core, rounds, seconds, turn=Target.turn):
    """Samples by name; A B C A B C, so that a change in the machine's speed meets everybody."""
    samples = {target.name: [] for target in targets}
    for target in targets:
        turn(target, load, core, WARM_UP_SECONDS)
    for _ in range(rounds):
        for target in targets:
            samples[target.name].append(turn(target, load, core, seconds))
    return samples


def request(target, size):
    fields = [f"GET {target.prefix}/{size} HTTP/1.1", "Host: compare"]
    fields += [f"{name}: {value}" for name, value in target.headers.items()]
    return "\r\n".join([*fields, "", ""]).encode()


def _ask(connection, head, body_bytes):
    """Reads one response whole."""
    connection.sendall(head)
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
            connections.append(stack.enter_context(target.transport.connect(target.port)))
            connections[-1].sendall(request(target, "100m"))
        began, deadline = set(), time.monotonic() + STREAM_SECONDS
        while time.monotonic() < deadline:
            readable, _, _ = select.select(connections, [], [], 1)
            for connection in readable:
                if connection.recv(65_536):
                    began.add(connection)
            most = max(most, target.process.resident_bytes())
            # Slower than the origin sends, so that what a proxy buffers fills up.
            time.sleep(0.05)
    if not began:
        raise SystemExit(f"{target.name}: no stream began")
    return {"connections": STREAMS, "began": len(began), "before_bytes": before, "most_bytes": most}


def idle_memory(target):
    """Resident bytes with many connections that have made a request each and are idle now."""
    before = target.process.resident_bytes()
    with contextlib.ExitStack() as stack:
        for _ in range(IDLE_CONNECTIONS):
            connection = stack.enter_context(target.transport.connect(target.port))
            _ask(connection, request(target, "1k"), OBJECT_BYTES["1k"])
        time.sleep(IDLE_SECONDS)
        after = target.process.resident_bytes()
    return {"connections": IDLE_CONNECTIONS, "before_bytes": before, "after_bytes": after}


def start_seconds(kind, site, buckets, cores):
    """From starting the process to its first whole response from the origin."""
    port = free_port()
    launch = kind.launch(kind, site, port, 1, buckets)
    head = f"GET /bucket-{buckets - 1:05}/1k HTTP/1.1\r\nHost: compare\r\n\r\n".encode()
    began = time.monotonic()
    process = Process(kind.name, launch.argv, cores, f"{site.directory}/{kind.name}-{port}.log", launch.environment)
    try:
        while time.monotonic() - began < 60 and process.popen.poll() is None:
            try:
                with site.transport.connect(port) as connection:
                    _ask(connection, head, OBJECT_BYTES["1k"])
                return time.monotonic() - began
            except ConnectionRefusedError:
                time.sleep(0.000_5)
        raise SystemExit(f"{kind.name} does not start with {buckets} buckets:\n{process.said()}")
    finally:
        process.stop()
