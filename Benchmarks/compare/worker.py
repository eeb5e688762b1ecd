"""Imports one peer, then measures it in a forked process for each request.

    worker.py PEER THREADS      requests on stdin, answers on stdout, one JSON object a line

A pass (load, first token, prefill, decoding) runs in a process of its own that already has the peer's modules, so that
every pass loads the model anew, no import is timed, and peak memory can be told from what the imports take. Whatever
the peer prints goes to stderr.
"""

import importlib
import json
import os
import random
import statistics
import sys
import time
import traceback


def status_bytes(field: str) -> int:
    with open("/proc/self/status", encoding="ascii") as lines:
        for line in lines:
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def prompts(random_source: random.Random, vocabulary: int, count: int, length: int) -> list[list[int]]:
    return [[random_source.randrange(vocabulary) for _ in range(length)] for _ in range(count)]


def measure(adapter, request: dict) -> dict:
    """One pass. Seconds in, tokens a second out; every prompt is another."""
    source = random.Random(request["seed"])
    vocabulary = request["vocabulary"]
    imported = status_bytes("VmRSS:")
    started = time.perf_counter()
    model = adapter.load(request["path"], request["precision"], request["threads"], request["settings"])
    loaded = time.perf_counter()
    _, _, first_tokens = model.run(prompts(source, vocabulary, 1, request["first_prompt"]), 1)
    answer = {
        "load_seconds": loaded - started,
        "first_token_seconds": time.perf_counter() - started,
        "imported_resident_bytes": imported,
        "first_tokens": first_tokens,
    }
    for phase in request["phases"]:
        batch, length, new = phase["batch"], phase["prompt"], phase["new"]
        samples = []
        # The first run is not counted: it makes buffers, picks kernels, takes page faults.
        for run in range(phase["runs"] + 1):
            tokens = new if run else min(new, 8)
            prefill, decode, firsts = model.run(prompts(source, vocabulary, batch, length), tokens)
            first_tokens += firsts
            if run:
                samples.append(batch * length / prefill if new == 1 else batch * (new - 1) / decode)
        answer[phase["name"]] = statistics.median(samples)
        if batch == 1:
            answer["peak_resident_bytes"] = status_bytes("VmHWM:")
    answer["peak_resident_bytes_with_batch"] = status_bytes("VmHWM:")
    times = os.times()
    answer["processor_seconds"] = times.user + times.system
    return answer


def main() -> None:
    peer, threads = sys.argv[1], int(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    adapter = importlib.import_module(f"peers.{peer}")
    try:
        adapter.prepare(threads)
    except Exception as error:
        print(json.dumps({"error": f"cannot be imported: {error}"}), file=answers, flush=True)
        raise
    print(json.dumps({"ready": True, "versions": adapter.versions()}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            try:
                answer = measure(adapter, request)
            except BaseException as error:  # whatever a peer throws is its answer
                traceback.print_exc()
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), file=answers, flush=True)
            # No destructors: some peers end their threads badly in a forked process, and all was measured.
            os._exit(0)
        _, code = os.waitpid(child, 0)
        if code != 0:
            print(json.dumps({"error": f"ended with status {code}"}), file=answers, flush=True)


if __name__ == "__main__":
    main()
