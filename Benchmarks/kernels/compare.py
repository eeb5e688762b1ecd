#!/usr/bin/env python3
"""Compares two runs of the kernel benchmarks: how each kernel's percent of its bound changed from A to B.

    make bench-kernels JSON=1 > B.jsonl
    python3 Benchmarks/kernels/compare.py A.jsonl B.jsonl

Prints the ratio B/A of the percents, the greatest loss first, and marks changes beyond 10 %. The percents are compared,
not the times: a bound is measured beside each kernel, so that they are good for machines that are busier one day than
the other.
"""

import argparse
import json
import pathlib
import sys

NOTABLE = 0.10
Key = tuple[str, str, str, int]


def read(path: pathlib.Path) -> tuple[dict, dict[Key, dict]]:
    """Returns the machine of a run, and its measurements by family, kernel, shape and rows."""
    machine, measurements = {}, {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            entry = json.loads(line)
            if "machine" in entry:
                machine = entry["machine"]
            else:
                key = (entry["family"], entry["kernel"], entry["shape"], entry["rows"])
                measurements[key] = {"percent": float(entry["percent"]), "bound": entry["bound"]}
        except (ValueError, KeyError, TypeError) as error:
            sys.exit(f"compare: {path}, line {number} is not a line of `make bench-kernels JSON=1`: {error!r}.")
    if not measurements:
        sys.exit(f"compare: {path} has no measurements.")
    return machine, measurements


def name(key: Key) -> str:
    family, kernel, shape, rows = key
    return f"{family:<29} {kernel:<18} {rows:>4}  {shape:<12}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("a", type=pathlib.Path, metavar="A.jsonl")
    parser.add_argument("b", type=pathlib.Path, metavar="B.jsonl")
    arguments = parser.parse_args()
    machine_a, a = read(arguments.a)
    machine_b, b = read(arguments.b)
    for what in ("cpu", "features"):
        if machine_a.get(what) != machine_b.get(what):
            print(f"The machines differ in {what}: {machine_a.get(what)} and {machine_b.get(what)}.", file=sys.stderr)

    ratios = {key: b[key]["percent"] / a[key]["percent"] for key in a.keys() & b.keys() if a[key]["percent"] > 0}
    notable = 0
    print(f"{'family':<29} {'kernel':<18} rows  {'shape':<12}     A %     B %    B/A")
    for key in sorted(ratios, key=lambda key: (ratios[key], key)):
        change = ratios[key] - 1
        mark = ""
        if abs(change) > NOTABLE:
            notable += 1
            mark = "  slower" if change < 0 else "  faster"
        bounds = (a[key]["bound"], b[key]["bound"])
        if bounds[0] != bounds[1]:
            mark += f"  (bound: {bounds[0]}, then {bounds[1]})"
        print(f"{name(key)} {a[key]['percent']:7.1f} {b[key]['percent']:7.1f} {ratios[key]:6.2f}{mark}")
    for path, keys in ((arguments.a, a.keys() - b.keys()), (arguments.b, b.keys() - a.keys())):
        for key in sorted(keys):
            print(f"{name(key)} only in {path}")
    print(f"{notable} of {len(ratios)} changed by more than {NOTABLE:.0%}.")


if __name__ == "__main__":
    main()
