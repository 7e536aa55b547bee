"""From samples to the few figures that are shown."""

import statistics
from dataclasses import dataclass

REFERENCE = "nginx"


def cpu_us(sample):
    """CPU time of the proxy per response, or per connection, in microseconds."""
    return sample["user_us"] + sample["system_us"]


def quartiles(values):
    if len(values) < 2:
        return values[0], values[0], values[0]
    return tuple(statistics.quantiles(values, n=4, method="inclusive"))


@dataclass
class Row:
    """One proxy at one load."""

    proxy: str
    us: float
    user_us: float
    ratio: tuple
    per_second: float
    p50_ms: float
    p99_ms: float
    gib_per_cpu_second: float
    errors: int


def rows(samples):
    """Medians over the rounds; the ratio is taken within each round, then (q1, median, q3)."""
    reference = samples[REFERENCE]
    for proxy, turns in samples.items():
        def median(figure, turns=turns):
            return statistics.median(map(figure, turns))

        yield Row(
            proxy=proxy,
            us=median(cpu_us),
            user_us=median(lambda turn: turn["user_us"]),
            ratio=quartiles([cpu_us(turn) / cpu_us(base) for turn, base in zip(turns, reference)]),
            per_second=median(lambda turn: turn["answers"] / turn["seconds"]),
            p50_ms=median(lambda turn: turn["p50_ms"]),
            p99_ms=median(lambda turn: turn["p99_ms"]),
            gib_per_cpu_second=median(lambda turn: turn["bytes"] / 2**30 / (cpu_us(turn) * turn["answers"] / 1e6)),
            errors=sum(turn["errors"] for turn in turns),
        )


def scaling_ratios(samples):
    """(proxy, (q1, median, q3)) of the CPU time per response of two workers to that of one."""
    for proxy, turns in samples.items():
        if pair := samples.get(f"{proxy} x2"):
            yield proxy, quartiles([cpu_us(two) / cpu_us(one) for one, two in zip(turns, pair)])


def memory_figures(figures):
    """(proxy, MiB at rest, KiB per idle connection, MiB with all streams, KiB per stream)."""
    for proxy, measured in figures.items():
        idle, streaming = measured["idle"], measured["streaming"]
        yield (
            proxy,
            idle["before_bytes"] / 2**20,
            (idle["after_bytes"] - idle["before_bytes"]) / idle["connections"] / 1024,
            streaming["most_bytes"] / 2**20,
            (streaming["most_bytes"] - streaming["before_bytes"]) / streaming["began"] / 1024,
        )


def print_load(load, samples, mode):
    size, connections = load.split(":")
    print(f"\n== {', '.join([size, f'{connections} connections', *mode])}: CPU time of the proxy per response ==")
    print(f"{'proxy':20}{'us':>10}{'user':>9}{'ratio':>8}{'quartiles':>13}{'responses/s':>11}{'p50 ms':>9}{'p99 ms':>9}"
          f"{'GiB/CPU s':>11}{'errors':>8}")
    for row in rows(samples):
        low, middle, high = row.ratio
        print(f"{row.proxy:20}{row.us:10.2f}{row.user_us:9.2f}{middle:8.2f}{low:7.2f}-{high:.2f}"
              f"{row.per_second:12.0f}{row.p50_ms:9.2f}{row.p99_ms:9.2f}{row.gib_per_cpu_second:11.2f}{row.errors:8d}", flush=True)


def churn_rows(samples):
    """(proxy, connections/s, resets/s, p50 ms, p99 ms, its quartiles, CPU us per connection, errors)."""
    for proxy, turns in samples.items():
        def median(figure, turns=turns):
            return statistics.median(turn[figure] for turn in turns)

        low, p99, high = quartiles([turn["p99_ms"] for turn in turns])
        yield (
            proxy,
            median("connections_per_second"),
            median("resets_per_second"),
            median("p50_ms"),
            p99,
            (low, high),
            statistics.median(map(cpu_us, turns)),
            sum(turn["errors"] for turn in turns),
        )


def print_churn(churn, samples, mode):
    rate = f"{churn.rate} connections/s" if churn.rate else "at full speed"
    print(f"\n== {', '.join([f'{churn.connections} connections that come and go', rate, *mode])}: what a good client waits ==")
    print(f"{'proxy':20}{'connections/s':>14}{'resets/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'quartiles':>15}{'CPU us/conn':>13}"
          f"{'errors':>8}")
    for proxy, connections, resets, p50, p99, (low, high), us, errors in churn_rows(samples):
        print(f"{proxy:20}{connections:14.0f}{resets:10.0f}{p50:9.2f}{p99:9.2f}{low:8.2f}-{high:<6.2f}{us:13.2f}{errors:8d}",
              flush=True)
    turns = [turn for turns in samples.values() for turn in turns]
    if not all(turn["good_first"] for turn in turns):
        print("The good client had to wait for a processor: its waits tell nothing of the proxies (SCHED_FIFO is not permitted)")
    if any(turn["errors"] for turn in turns):
        print("There were errors: these figures mean nothing")


def print_memory(figures):
    print("\n== resident memory ==")
    print(f"{'proxy':20}{'at rest MiB':>12}{'KiB/idle conn':>15}{'streaming MiB':>15}{'KiB/stream':>12}")
    for proxy, rest, idle, streaming, stream in memory_figures(figures):
        print(f"{proxy:20}{rest:12.1f}{idle:15.1f}{streaming:15.1f}{stream:12.1f}", flush=True)
    for proxy, measured in figures.items():
        began, of = measured["streaming"]["began"], measured["streaming"]["connections"]
        if began < of:
            print(f"{proxy}: only {began} of {of} streams began")


def print_scaling(figures):
    for load, samples in figures.items():
        print(f"\n== {load}: CPU time per response, two workers to one ==")
        for proxy, (low, middle, high) in scaling_ratios(samples):
            print(f"{proxy:20}{middle:8.2f}{low:8.2f}-{high:.2f}", flush=True)


def print_start(figures):
    print("\n== start to first response, milliseconds, median ==")
    for proxy, by_buckets in figures.items():
        for buckets, seconds in by_buckets.items():
            print(f"{proxy:20}{int(buckets):>8} buckets{statistics.median(seconds) * 1e3:10.1f}", flush=True)
