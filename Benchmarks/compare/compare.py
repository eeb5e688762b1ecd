#!/usr/bin/env python3
"""Measures Lathe and other engines on the same weights, in turns, and writes docs/benchmarks.md.

    python3 Benchmarks/compare/compare.py [--models gpt2] [--peers lathe,llama.cpp] [--rounds 5] [--report-only]

Every round measures every contender once, in an order drawn anew; a pass is a fresh process that loads, gives its first token, and runs
every phase, on prompts that no pass repeats. Right before and after each pass the read bandwidth of the machine is probed with as many
threads. A pass during which the machine did other work is repeated; what remains disturbed is marked. Passes are kept in
results.jsonl as they come, so that an interrupted run goes on where it was.
"""

import argparse
import contextlib
import json
import os
import pathlib
import random
import select
import subprocess
import time

import lathe_engine
import machine
import report
from matrix import CONTENDERS, ENGINES, FIRST_PROMPT, MODELS, PHASES, VOCABULARY, Contender, default_plan
from preparation import HERE, Workshop, say, size

# Share of the machine that others may take during a pass.
_DISTURBANCE = 0.05
_PASS_LIMIT_SECONDS = 300


class Worker:
    """A process that has imported an engine and measures passes in forks of itself."""

    def __init__(self, workshop: Workshop, engine: str, threads: int) -> None:
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        self._log = workshop.log.open("a", encoding="utf-8")
        self._process = subprocess.Popen(
            [workshop.python, "-u", HERE / "worker.py", engine, str(threads)], env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, start_new_session=True,
        )  # fmt: skip
        self._rest = b""
        ready = self._answer()
        self.failure = ready.get("error")
        self.versions = ready.get("versions", {})

    def measure(self, request: dict) -> dict:
        if self.failure:
            return {"error": self.failure}
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        answer = self._answer()
        if "error" in answer and self._process.poll() is not None:
            self.failure = answer["error"]
        return answer

    def _answer(self) -> dict:
        """The next line, within the limit; a worker that is late is ended, with the pass that it forked."""
        deadline = time.monotonic() + _PASS_LIMIT_SECONDS
        while b"\n" not in self._rest:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                os.killpg(self._process.pid, 9)
                self._process.wait()
                return {"error": f"took more than {_PASS_LIMIT_SECONDS} seconds"}
            part = os.read(self._process.stdout.fileno(), 65536)
            if not part:
                return {"error": f"ended with status {self._process.wait()}; the log says more"}
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._log.close()


class Comparison:
    def __init__(
        self, workshop: Workshop, contenders: list[Contender], phases: list[dict], retries: int, redo_disturbed: bool
    ) -> None:
        self._workshop = workshop
        self._contenders = contenders
        self._phases = phases
        self._retries = retries
        self._workers: dict[tuple[str, int], Worker] = {}
        self._probes: dict[tuple[str, int], float] = {}
        self._results = workshop.work / "results.jsonl"
        # The last record of a place counts.
        latest = {(*_place(record), record["contender"]): record for record in read(self._results)}
        self._done = {place for place, record in latest.items() if not (redo_disturbed and record.get("disturbed"))}

    def run(self, plan: list[tuple[str, int]], rounds: int) -> None:
        paths = {}
        for model in {model: None for model, _ in plan}:
            for contender in self._contenders:
                paths[contender, model] = self._workshop.converted(contender, model)
        started, passes = time.monotonic(), 0
        todo = [
            (number, model, threads, contender)
            for number in range(rounds)
            for model, threads in plan
            for contender in self._in_turn(number, model, threads)
            if (number, model, threads, contender.key) not in self._done and paths[contender, model]
        ]
        for index, (number, model, threads, contender) in enumerate(todo):
            record = self._pass(number, model, threads, contender, paths[contender, model])
            self._keep(record)
            passes += 1
            left = (time.monotonic() - started) / passes * (len(todo) - index - 1)
            figure = record.get("error") or f"decode {record.get('decode', 0):.1f}"
            say(
                f"round {number + 1}, {model}, {threads} threads, {contender.title} {contender.precision}: {figure}"
                f"{' (disturbed)' if record.get('disturbed') else ''}; {left / 60:.0f} minutes left"
            )
        for worker in self._workers.values():
            worker.close()
        for key, error in self._workshop.failures.items():
            self._keep({"contender": key, "error": error})

    def _in_turn(self, number: int, model: str, threads: int) -> list[Contender]:
        return random.Random(f"{number} {model} {threads}").sample(self._contenders, len(self._contenders))

    # MARK: A pass

    def _pass(self, number: int, model: str, threads: int, contender: Contender, path: pathlib.Path) -> dict:
        best = None
        for _ in range(self._retries + 1):
            record = self._attempt(f"{number} {model} {threads}", model, threads, contender, path)
            if best is None or record["others"] < best["others"]:
                best = record
            if "error" in record or record["others"] <= _DISTURBANCE:
                break
        best["disturbed"] = best["others"] > _DISTURBANCE
        best |= {
            "round": number, "model": model, "threads": threads, "contender": contender.key, "file_bytes": size(path),
        }  # fmt: skip
        return best

    def _attempt(self, seed: str, model: str, threads: int, contender: Contender, path: pathlib.Path) -> dict:
        before = self._probe(model, threads)
        # A worker imports its engine before the clock starts.
        worker = None if contender.engine == "lathe" else self._worker(contender.engine, threads)
        wall, busy, children = time.monotonic(), machine.busy_seconds(), _seconds_of_children()
        if worker is None:
            answer = lathe_engine.measure(self._workshop.lathe, path, threads, self._phases, seed)
            own = _seconds_of_children() - children
        else:
            answer = worker.measure(
                {
                    "path": str(path), "precision": contender.precision, "threads": threads, "seed": seed,
                    "vocabulary": VOCABULARY, "first_prompt": FIRST_PROMPT, "phases": self._phases,
                }
            )  # fmt: skip
            answer |= {"versions": worker.versions}
            own = answer.get("processor_seconds", 0)
        elapsed = time.monotonic() - wall
        others = max(0.0, machine.busy_seconds() - busy - own) / (elapsed * os.cpu_count())
        after = self._probe(model, threads, fresh=True)
        return answer | {
            "others": others, "probe": (before + after) / 2, "seconds": elapsed, "seed": seed, "date": time.time(),
        }  # fmt: skip

    def _probe(self, model: str, threads: int, fresh: bool = False) -> float:
        """The probe after one pass is the one before the next."""
        if fresh or (model, threads) not in self._probes:
            path = self._workshop.converted(CONTENDERS[1], model)
            self._probes = {(model, threads): machine.probe(self._workshop.lathe, path, threads)}
        return self._probes[model, threads]

    def _worker(self, engine: str, threads: int) -> Worker:
        if (engine, threads) not in self._workers:
            self._workers[engine, threads] = Worker(self._workshop, engine, threads)
        return self._workers[engine, threads]

    def _keep(self, record: dict) -> None:
        with self._results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def _place(record: dict) -> tuple:
    return record.get("round"), record.get("model"), record.get("threads")


def _seconds_of_children() -> float:
    times = os.times()
    return times.children_user + times.children_system


def read(path: pathlib.Path) -> list[dict]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# MARK: The command


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = {title.lower(): engine for engine, title in ENGINES.items()}
    parser.add_argument("--lathe", type=pathlib.Path, default=pathlib.Path(".build/release/lathe"))
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path(".build/compare"))
    parser.add_argument("--docs", type=pathlib.Path, default=pathlib.Path("docs"), help="where the report goes")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--peers", default=",".join(names), help="engines, Lathe among them: %(default)s")
    parser.add_argument("--precisions", default="float,int8,int4,int4-sparse")
    parser.add_argument("--phases", default=",".join(phase["name"] for phase in PHASES))
    parser.add_argument("--threads", help="1,2 (default: both, and 2 alone for gpt2-medium)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--retries", type=int, default=1, help="of a pass that other work disturbed")
    parser.add_argument("--redo-disturbed", action="store_true", help="measure passes again that other work disturbed")
    parser.add_argument("--fresh", action="store_true", help="forget earlier passes")
    parser.add_argument("--report-only", action="store_true", help="write the report from the passes that there are")
    arguments = parser.parse_args()
    peers = arguments.peers.lower().split(",")
    for given, known in ((peers, names), (arguments.models.split(","), MODELS)):
        unknown = set(given) - set(known)
        if unknown:
            parser.error(f"{', '.join(sorted(unknown))} is none of {', '.join(known)}")
    precisions = arguments.precisions.split(",")
    arguments.contenders = [
        contender
        for contender in CONTENDERS
        if contender.engine in {names[peer] for peer in peers} and contender.precision in precisions
    ]
    arguments.plan = default_plan(
        arguments.models.split(","), [int(count) for count in arguments.threads.split(",")] if arguments.threads else None
    )
    return arguments


def main() -> None:
    arguments = _arguments()
    workshop = Workshop(arguments.work, arguments.lathe)
    results = workshop.work / "results.jsonl"
    if not arguments.report_only:
        if arguments.fresh:
            results.unlink(missing_ok=True)
        workshop.install()
        (workshop.work / "machine.json").write_text(json.dumps(machine.description(workshop.lathe)))
        phases = [phase for phase in PHASES if phase["name"] in arguments.phases.split(",")]
        comparison = Comparison(workshop, arguments.contenders, phases, arguments.retries, arguments.redo_disturbed)
        comparison.run(arguments.plan, arguments.rounds)
    report.write(read(results), json.loads((workshop.work / "machine.json").read_text()), arguments.docs)


if __name__ == "__main__":
    main()
