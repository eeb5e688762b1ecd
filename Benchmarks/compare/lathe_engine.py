"""Lathe, measured by its own command: each phase is a process."""

import json
import os
import pathlib
import random
import subprocess
import time
import zlib

from matrix import FIRST_PROMPT, LATHE_OPTIONS, LOWERED, VOCABULARY
from worker import prompts


def convert(lathe: pathlib.Path, checkpoint: pathlib.Path, out: pathlib.Path, precision: str) -> None:
    if precision == "int4-sparse":
        pruned = checkpoint.with_name(checkpoint.name + "-pruned")
        if not pruned.exists():
            arguments = ["--sparsity", "0.5", "--balance-pairs", "-o", pruned]
            subprocess.run([lathe, "prune", checkpoint, *arguments], check=True, stdout=subprocess.DEVNULL)
        checkpoint = pruned
    options = LATHE_OPTIONS[precision]
    subprocess.run([lathe, "quantize", checkpoint, "-o", out, *options], check=True, stdout=subprocess.DEVNULL)


def lowered_levels(lathe: pathlib.Path) -> set[str]:
    """Those of the table's instruction sets that this machine has below the best that it has."""

    def level(**environment: str) -> str | None:
        command = [lathe, "bench", "--prompt-tokens", "1", "--new-tokens", "2", "--runs", "1", "--json"]
        completed = subprocess.run(
            command, capture_output=True, text=True, check=False, env=os.environ | environment
        )  # fmt: skip
        return json.loads(completed.stdout)["isa"] if completed.returncode == 0 else None

    return {isa for isa in LOWERED if level(LATHE_ISA=isa)} - {level()}


def measure(
    lathe: pathlib.Path, model: pathlib.Path, threads: int, phases: list[dict], seed: str, isa: str | None
) -> dict:
    """One pass. First token: from the start of the process to its end. Peak memory: all of the process."""
    environment = os.environ | ({"LATHE_ISA": isa} if isa else {})

    def run(*arguments: object) -> dict:
        command = [str(lathe), *map(str, arguments), "--model", str(model), "--threads", str(threads), "--json"]
        completed = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if completed.returncode:
            raise RuntimeError(f"{' '.join(command)}: {completed.stderr.strip()}")
        return json.loads(completed.stdout)

    [prompt] = prompts(random.Random(seed), VOCABULARY, 1, FIRST_PROMPT)
    started = time.perf_counter()
    report = run("generate", "--ids", ",".join(map(str, prompt)), "-n", 1)
    answer = {
        "first_token_seconds": time.perf_counter() - started,
        "first_tokens": report["ids"],
        "imported_resident_bytes": 0,
    }
    peak = report["peak_resident_bytes"]
    for phase in phases:
        # `bench` needs a second token to time decoding.
        extent = ["--prompt-tokens", phase["prompt"], "--new-tokens", max(2, phase["new"])]
        report = run("bench", *extent, "--batch", phase["batch"], "--runs", phase["runs"], "--seed", zlib.crc32(seed.encode()))
        kind = "prefill" if phase["new"] == 1 else "decode"
        [result] = [result for result in report["results"] if result["phase"] == kind]
        answer[phase["name"]] = result["tokens_per_second"]["median"]
        if phase["batch"] == 1:
            peak = max(peak, report["peak_resident_bytes"])
        if phase["name"] == "decode":
            answer["ratio_to_probe"] = result["ratio_to_probe"]
            answer["isa"] = report["isa"]
    return answer | {"peak_resident_bytes": peak}
