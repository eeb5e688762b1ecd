#!/usr/bin/env python3
"""Decoding speed under a processor quota: the number of threads that Lathe chooses beside every number by hand.

    python3 Benchmarks/quota.py --lathe .build/release/lathe --model gpt2.lathe

For each quota one control group (version 1 or 2; needs the right to make one), in it `lathe bench` by turns with each
number of threads and with none said. Prints medians of tokens/s and the chosen number's share of the best.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys


def make_group(processors: float) -> pathlib.Path:
    """A group below this process's own that may use so many processors' time."""
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        home = pathlib.Path("/sys/fs/cgroup", *(["cpu"] if controllers else []), path.strip("/"))
        group = home / f"lathe-quota-{os.getpid()}"
        try:
            group.mkdir()
            if controllers:
                (group / "cpu.cfs_period_us").write_text("100000")
                (group / "cpu.cfs_quota_us").write_text(str(int(processors * 100_000)))
            else:
                (group / "cpu.max").write_text(f"{int(processors * 100_000)} 100000")
            return group
        except OSError:
            if group.is_dir():
                group.rmdir()
    sys.exit("no control group with a quota can be made here; run it as root")


def decode(arguments: argparse.Namespace, group: pathlib.Path, threads: int | None) -> tuple[int, float]:
    """Threads and tokens a second of one run inside the group."""
    command = [arguments.lathe, "bench", "--model", arguments.model, "--prompt-tokens", "32", "--new-tokens", "128", "--runs", "3", "--json"]
    command += ["--threads", str(threads)] if threads else []
    inside = ["/bin/sh", "-c", f'echo $$ > "{group}/cgroup.procs"; exec "$@"', "sh", *map(str, command)]
    results = json.loads(subprocess.run(inside, check=True, capture_output=True, text=True).stdout)["results"]
    result = next(result for result in results if result["phase"] == "decode")
    return result["threads"], result["tokens_per_second"]["median"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lathe", type=pathlib.Path, default=pathlib.Path(".build/release/lathe"))
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--quotas", default="0.5,1,2")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    processors = len(os.sched_getaffinity(0))
    print("| Quota | Threads chosen | Tokens/s | By hand | Of the best |\n| --: | --: | --: | :-- | --: |")
    for quota in map(float, arguments.quotas.split(",")):
        group = make_group(quota)
        speeds: dict[int | None, list[float]] = {}
        chosen = 0
        try:
            for number in range(arguments.rounds):
                order = [None, *range(1, processors + 1)]
                for threads in order if number % 2 == 0 else reversed(order):
                    count, speed = decode(arguments, group, threads)
                    speeds.setdefault(threads, []).append(speed)
                    chosen = count if threads is None else chosen
        finally:
            group.rmdir()
        medians = {threads: statistics.median(values) for threads, values in speeds.items()}
        by_hand = {threads: speed for threads, speed in medians.items() if threads}
        told = ", ".join(f"{threads}: {speed:.1f}" for threads, speed in by_hand.items())
        print(f"| {quota:g} | {chosen} | {medians[None]:.1f} | {told} | {medians[None] / max(by_hand.values()):.2f} |", flush=True)


if __name__ == "__main__":
    main()
