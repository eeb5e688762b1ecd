#!/usr/bin/env python3
"""Times the weight formats on random weights of GPT-2 small, each beside dense int8 and the read probe of its own bytes.

    python3 Benchmarks/formats.py --lathe .build/release/lathe --work .build/bench [--rounds 5] [--threads 1,2]

Magnitude pruning of random weights gives random masks. Every file is timed once in each round, so that all of them see the
machine's quieter and busier minutes; the figures are medians over the rounds. Prints Markdown.
"""

import argparse
import json
import pathlib
import statistics
import subprocess

# Name, sparsity, whether the embedding is pruned too, options of `lathe quantize`.
FILES = [
    ("int8", 0, False, ["--sparse", "off"]),
    ("int4 g64", 0, False, ["--weights", "int4", "--sparse", "off"]),
    ("int4 g64, head too", 0, False, ["--weights", "int4", "--sparse", "off", "--override", "lm_head=int4"]),
    ("int8, 50 % sparse", 0.5, False, []),
    ("int8, 50 % sparse, head too", 0.5, True, ["--override", "lm_head=int8:sparse"]),
    ("int8, 70 % sparse", 0.7, False, []),
    ("int8, 70 % sparse, head too", 0.7, True, ["--override", "lm_head=int8:sparse"]),
    ("int4 + 50 % sparse", 0.5, False, ["--weights", "int4", "--sparse", "on"]),
]


def run(*arguments: str) -> str:
    return subprocess.run(arguments, check=True, stdout=subprocess.PIPE, text=True).stdout


def prepare(lathe: str, work: pathlib.Path) -> dict[str, pathlib.Path]:
    """Makes every file that is not there yet."""
    source = work / "gpt2"
    if not (source / "model.safetensors").exists():
        run(lathe, "synthesize", "gpt2", "--dtype", "f16", "-o", str(source))
    files = {}
    for name, sparsity, with_embedding, options in FILES:
        checkpoint = source
        if sparsity:
            checkpoint = work / f"gpt2-{sparsity}{'-all' if with_embedding else ''}"
            if not checkpoint.exists():
                scope = ["--include-embeddings"] if with_embedding else []
                run(lathe, "prune", str(source), "-o", str(checkpoint), "--sparsity", str(sparsity), *scope)
        file = work / f"gpt2 {name}.lathe".replace(" ", "_").replace(",", "").replace("%", "percent")
        if not file.exists():
            run(lathe, "quantize", str(checkpoint), "-o", str(file), *options)
        files[name] = file
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lathe", default=".build/release/lathe")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path(".build/bench"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", default="1,2")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    files = prepare(arguments.lathe, arguments.work)

    rounds: dict[tuple[str, str, int], list[dict]] = {}
    extent = ["--prompt-tokens", "128", "--new-tokens", "128", "--runs", "3", "--threads", arguments.threads, "--json"]
    resident = {}
    for _ in range(arguments.rounds):
        for name, file in files.items():
            report = json.loads(run(arguments.lathe, "bench", "--model", str(file), *extent))
            resident[name] = report["resident_weight_bytes"]
            for result in report["results"]:
                rounds.setdefault((name, result["phase"], result["threads"]), []).append(result)

    def median(name: str, phase: str, threads: int, value) -> float:
        return statistics.median(value(result) for result in rounds[name, phase, threads])

    def rate(result: dict) -> float:
        return result["tokens_per_second"]["median"]

    print("| Format | File MB | Resident weights MB | Threads | Decode tokens/s | × int8 | of the probe | Prefill × int8 |")
    print("|:--|--:|--:|--:|--:|--:|--:|--:|")
    for name, file in files.items():
        for threads in map(int, arguments.threads.split(",")):
            decode = median(name, "decode", threads, rate)
            # Of the same round, minute by minute the same machine.
            pairs = zip(rounds[name, "decode", threads], rounds["int8", "decode", threads], strict=True)
            ratio = statistics.median(rate(mine) / rate(dense) for mine, dense in pairs)
            pairs = zip(rounds[name, "prefill", threads], rounds["int8", "prefill", threads], strict=True)
            prefill = statistics.median(rate(mine) / rate(dense) for mine, dense in pairs)
            probe = median(name, "decode", threads, lambda result: result["ratio_to_probe"])
            print(
                f"| {name} | {file.stat().st_size / 1e6:.1f} | {resident[name] / 1e6:.1f} | {threads} | {decode:.0f} "
                f"| {ratio:.2f} | {probe:.2f} | {prefill:.2f} |"
            )


if __name__ == "__main__":
    main()
