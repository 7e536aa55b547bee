"""Connections that come, ask once and go, a third of them with a reset, and the wait of one that stays.

The load is made by loadtest/churn.rs.
"""

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import stand
from load import LoadFailed

# Turns end by themselves; this is for a machine that stands still.
GRACE_SECONDS = 60


@dataclass
class Churn:
    """CONNECTIONS[@RATE], as "128" or "128@3000"."""

    connections: int
    # New connections a second; None for as many as there can be.
    rate: int | None
    # Set when it is built.
    program: Path | None = None

    @classmethod
    def parse(cls, text):
        found = re.fullmatch(r"([1-9]\d*)(?:@([1-9]\d*))?", text)
        if not found:
            raise ValueError(f"{text}: a churn is CONNECTIONS or CONNECTIONS@RATE")
        return cls(int(found[1]), int(found[2]) if found[2] else None)

    @property
    def name(self):
        return f"{self.connections}@{self.rate}" if self.rate else str(self.connections)

    def run(self, target, core, seconds):
        """One turn: what the program reports."""
        argv = ["taskset", "-c", str(core), self.program, f"127.0.0.1:{target.port}", target.prefix, str(seconds),
                str(self.connections), *(["--rate", str(self.rate)] if self.rate else [])]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=seconds + GRACE_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise LoadFailed(f"{self.program} does not end") from error
        # It also reports where there were errors.
        if not done.stdout.startswith("{"):
            raise LoadFailed(f"{self.program} failed:\n{done.stdout}{done.stderr}")
        return {**json.loads(done.stdout), "said": done.stderr.strip()}


def build():
    """The program. Its time is in the kernel: the profile that tests use does, and is often built already."""
    return stand.build("churn", "--example")
