#!/usr/bin/env python3
"""Proves the memory budget: large models inside a hard limit of the kernel's, and plans beside what was measured.

    python3 Benchmarks/proof.py --lathe .build/release/lathe --work .build/proof [--budget 700000000] [--items 1,2,3,4,5,6]

Every fenced command runs in a control group whose limit is the budget; what counts is the kernel's own account: its peak
stays below the limit and the limit was never met. Speeds are those of fenced and unfenced runs in turns. Takes about half an
hour and 25 GB of disk, and prints Markdown; exit status 1 if anything was not as it must be.
"""

import argparse
import json
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import time

FENCE = re.compile(r"fence: ([^,]+), limit ([^,]+), peak ([^,]+)(?:, (\d+) times at the limit)?")


class Proof:
    def __init__(self, lathe: str, work: pathlib.Path, budget: int, rounds: int):
        self.lathe, self.work, self.budget, self.rounds = lathe, work, budget, rounds
        self.failures: list[str] = []
        work.mkdir(parents=True, exist_ok=True)

    def require(self, holds: bool, what: str) -> None:
        if not holds:
            self.failures.append(what)
            print(f"NOT SO: {what}", file=sys.stderr)

    def run(self, *arguments: object, expect: int = 0) -> tuple[str, str, float]:
        command = [self.lathe, *map(str, arguments)]
        print("$ lathe", *arguments, file=sys.stderr, flush=True)
        start = time.monotonic()
        result = subprocess.run(command, capture_output=True, text=True)
        self.require(result.returncode == expect, f"{command} ended with {result.returncode}: {result.stderr[-500:]}")
        return result.stdout, result.stderr, time.monotonic() - start

    def fenced(self, *arguments: object, expect: int = 0) -> tuple[str, str, float]:
        """Inside the fence: returns the output, the fence's peak as it was told, and seconds."""
        output, errors, seconds = self.run(*arguments, "--memory-budget", self.budget, "--fence", expect=expect)
        match = FENCE.search(errors)
        self.require(match is not None, f"no fence was told of: {errors[-500:]}")
        if not match:
            return output, "", seconds
        means, _, peak, hits = match.groups()
        self.require(hits == "0", f"{arguments}: {hits} times at the limit")
        return output, f"{peak} ({means})", seconds

    def checkpoint(self, name: str, dtype: str = "f32") -> pathlib.Path:
        folder = self.work / f"{name}-{dtype}"
        if not (folder / "config.json").exists():
            self.run("synthesize", name, "--dtype", dtype, "-o", folder)
        return folder

    def file(self, name: str, weights: str, *, dtype: str = "f16") -> pathlib.Path:
        file = self.work / f"{name}-{weights}.lathe"
        if not file.exists():
            self.run("quantize", self.checkpoint(name, dtype), "-o", file, "--weights", weights)
        return file

    def bench(self, file: pathlib.Path, *options: object, fenced: bool) -> tuple[dict, str]:
        arguments = ["bench", "--model", file, "--json", *options]
        output, peak, _ = self.fenced(*arguments) if fenced else self.run(*arguments)
        return (json.loads(output) if output.startswith("{") else {}), peak if fenced else ""

    def compared(self, file: pathlib.Path, *options: object) -> tuple[float, float, str]:
        """Decode tokens/s in the fence, that over the unfenced rate of the same round, and the fence's peak."""
        rates, ratios, peak = [], [], ""
        for _ in range(self.rounds):
            inside, peak = self.bench(file, *options, fenced=True)
            outside, _ = self.bench(file, *options, fenced=False)
            if not inside or not outside:
                return 0, 0, peak
            rate = {name: next(r for r in report["results"] if r["phase"] == "decode")["tokens_per_second"]["median"]
                    for name, report in [("inside", inside), ("outside", outside)]}
            rates.append(rate["inside"])
            ratios.append(rate["inside"] / rate["outside"])
            faults = [result["major_page_faults"] for result in inside["results"]]
            self.require(faults == [0] * len(faults), f"{file}: {faults} major page faults after warm-up")
        ratio = statistics.median(ratios)
        self.require(ratio >= 0.9, f"{file}: decoding in the fence has {ratio:.2f} of the unfenced speed")
        return statistics.median(rates), ratio, peak


def conversion(proof: Proof) -> None:
    source, output = proof.checkpoint("gpt2-xl"), proof.work / "gpt2-xl-int4.lathe"
    size = (source / "model.safetensors").stat().st_size
    _, peak, seconds = proof.fenced("quantize", source, "-o", output, "--weights", "int4")
    print(f"| 1 | gpt2-xl in f32, {size / 1e9:.1f} GB → int4, {output.stat().st_size / 1e6:.0f} MB | {peak} | {seconds:.0f} s |")


def large(proof: Proof) -> None:
    file = proof.file("gpt2-large", "int4")
    rate, ratio, peak = proof.compared(file, "--prompt-tokens", 32, "--new-tokens", 200, "--runs", 1)
    print(f"| 2 | gpt2-large int4, context 1024, 200 tokens | {peak} | {rate:.1f} tokens/s, {ratio:.2f} of unfenced |")


def pruned(proof: Proof) -> None:
    file = proof.work / "gpt2-xl-pruned.lathe"
    if not file.exists():
        folder = proof.work / "gpt2-xl-60"
        if not folder.exists():
            _, peak, seconds = proof.fenced("prune", proof.checkpoint("gpt2-xl"), "-o", folder, "--sparsity", 0.6)
            print(f"| 3 | gpt2-xl, 60 % pruned | {peak} | {seconds:.0f} s |")
        _, peak, seconds = proof.fenced("quantize", folder, "-o", file, "--weights", "int4")
        print(f"| 3 | that → int4 in groups of 64, {file.stat().st_size / 1e6:.0f} MB | {peak} | {seconds:.0f} s |")
        shutil.rmtree(folder)
    options = ["--context", 256, "--kv", "int8", "--prompt-tokens", 32, "--new-tokens", 200, "--prefill-chunk", 32, "--runs", 1]
    rate, ratio, peak = proof.compared(file, *options)
    print(f"| 3 | gpt2-xl int4, 60 % pruned, context 256, int8 cache, 32 + 200 tokens | {peak} | "
          f"{rate:.1f} tokens/s, {ratio:.2f} of unfenced |")


def sessions(proof: Proof) -> None:
    file = proof.file("gpt2", "int8")
    output, _, _ = proof.run("plan", "--model", file, "--memory-budget", proof.budget, "--json")
    most = json.loads(output)["maximum_sessions"]
    options = ["--prompt-tokens", 896, "--new-tokens", 128, "--runs", 1]
    report, peak = proof.bench(file, "--batch", most, *options, fenced=True)
    rate = next(r for r in report["results"] if r["phase"] == "decode")["tokens_per_second"]["median"]
    _, refusal, _ = proof.run(
        "bench", "--model", file, "--batch", most + 1, *options, "--memory-budget", proof.budget, expect=2)
    proof.require("budget" in refusal, f"no budget in: {refusal}")
    print(f"| 4 | gpt2 int8, {most} sessions of 1024 tokens; {most + 1} are refused | {peak} | {rate:.0f} tokens/s together |")


def plans(proof: Proof) -> None:
    print("\n| Model | Planned | Measured (VmHWM) | Difference |\n|:--|--:|--:|--:|")
    for name in ["distilgpt2", "gpt2", "gpt2-medium", "gpt2-large"]:
        for weights in ["int8", "int4"]:
            file = proof.file(name, weights)
            output, _, _ = proof.run("plan", "--model", file, "--threads", 2, "--json")
            planned = json.loads(output)["total_bytes"]
            report, _ = proof.bench(
                file, "--threads", 2, "--prompt-tokens", 1000, "--new-tokens", 24, "--runs", 1, fenced=False)
            measured = report["peak_resident_bytes"]
            proof.require(
                abs(planned - measured) <= max(4e6, 0.05 * planned), f"{file}: {planned} planned, {measured} measured")
            print(f"| {name} {weights} | {planned / 1e6:.1f} MB | {measured / 1e6:.1f} MB | "
                  f"{(planned - measured) / 1e6:+.1f} MB, {100 * (planned / measured - 1):+.1f} % |")


def smallest(proof: Proof) -> None:
    file = proof.file("distilgpt2", "int8")
    options = ["--prompt-tokens", 960, "--new-tokens", 64, "--runs", 1, "--prefill-chunk", 64]
    report, _ = proof.bench(file, *options, fenced=False)
    peak = report["peak_resident_bytes"]
    proof.require(peak < 130e6, f"distilgpt2 takes {peak} bytes")
    _, fence = proof.bench(file, *options, fenced=True)
    print(f"\n6. distilgpt2 int8, one session, context 1024 filled, float16 cache: peak resident {peak / 1e6:.1f} MB; "
          f"charged in the fence {fence}.")


ITEMS = {1: conversion, 2: large, 3: pruned, 4: sessions, 5: plans, 6: smallest}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lathe", default=".build/release/lathe")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path(".build/proof"))
    parser.add_argument("--budget", type=int, default=700_000_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--items", default="1,2,3,4,5,6")
    arguments = parser.parse_args()
    proof = Proof(arguments.lathe, arguments.work, arguments.budget, arguments.rounds)
    print(f"| Item | What | Peak that the kernel charged, of {proof.budget / 1e6:.0f} MB | |\n|--:|:--|--:|:--|")
    for item in map(int, arguments.items.split(",")):
        ITEMS[item](proof)
        sys.stdout.flush()
    sys.exit(1 if proof.failures else 0)


if __name__ == "__main__":
    main()
