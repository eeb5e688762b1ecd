#!/usr/bin/env python3
"""Measures Lathe and other engines on the same weights, in turns, and writes docs/benchmarks.md.

    python3 Benchmarks/compare/compare.py [--models gpt2] [--peers lathe,llama.cpp] [--rounds 5] [--report-only]

Every round measures every contender once, in an order drawn anew; a pass is a fresh process that loads, gives its
first token, and runs every phase, on prompts that no round repeats. Right before and after each pass the read bandwidth
of the machine is probed with as many threads. A pass during which the machine did other work is repeated; what remains
disturbed is marked. Where an engine can be run in several ways, one pass of each is timed first and the fastest is kept
(choices.json). Passes are kept in results.jsonl as they come, so that an interrupted run goes on where it was.
"""

import argparse
import contextlib
import fcntl
import importlib
import json
import math
import os
import pathlib
import random
import select
import subprocess
import sys
import time

import lathe_engine
import machine
import report
from matrix import CONTENDERS, ENGINES, FIRST_PROMPT, MODELS, PHASES, VOCABULARY, Contender, is_in_default
from preparation import HERE, Workshop, say, size
from results import place, read

# Share of the machine that others may take during a pass.
_DISTURBANCE = 0.05
_PASS_LIMIT_SECONDS = 600
_TURN_SECONDS = 120


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
        self,
        workshop: Workshop,
        contenders: list[Contender],
        phases: list[dict],
        retries: int,
        redo_disturbed: bool,
        lock: pathlib.Path | None,
    ) -> None:
        self._workshop = workshop
        self._lock = lock.open("a", encoding="utf-8") if lock else None
        self._turn_started: float | None = None
        self._contenders = contenders
        self._phases = phases
        self._retries = retries
        self._workers: dict[tuple[str, int], Worker] = {}
        self._probes: dict[tuple[str, int], float] = {}
        self._results = workshop.work / "results.jsonl"
        self._choices_file = workshop.work / "choices.json"
        self._choices = json.loads(self._choices_file.read_text()) if self._choices_file.exists() else {}
        # The last record of a place counts.
        latest = {(*place(record), record["contender"]): record for record in read(self._results) if "round" in record}
        self._done = {
            at
            for at, record in latest.items()
            if "error" not in record and not (redo_disturbed and record["disturbed"])
        }

    def run(self, models: list[str], threads: list[int], rounds: int, full: bool) -> None:
        plan = [
            (model, count, contender)
            for model in models
            for count in threads
            for contender in self._contenders
            if full or is_in_default(contender, model, count)
        ]
        paths = {(contender, model): self._workshop.converted(contender, model) for model, _, contender in plan}
        for contender in dict.fromkeys(contender for _, _, contender in plan):
            model = "gpt2" if "gpt2" in models else models[0]
            if contender.engine != "lathe" and paths.get((contender, model)):
                self._settle(contender, model, max(threads), paths[contender, model])
        started = time.monotonic()
        todo = [
            (number, model, threads, contender, is_cold)
            for number in range(rounds)
            for is_cold in (False, True)
            for model, threads, contender in _in_turn(plan, number)
            if (number, model, threads, is_cold, contender.key) not in self._done and paths[contender, model]
        ]
        for index, (number, model, threads, contender, is_cold) in enumerate(todo):
            record = self._pass(number, model, threads, contender, paths[contender, model], is_cold)
            self._keep(record)
            left = (time.monotonic() - started) / (index + 1) * (len(todo) - index - 1)
            figure = f"cold {record.get('first_token_seconds', 0):.2f} s" if is_cold else f"decode {record.get('decode', 0):.1f}"
            say(
                f"round {number + 1}, {model}, {threads} threads, {contender.title} {contender.precision}: "
                f"{record.get('error') or figure}"
                f"{' (disturbed)' if record.get('disturbed') else ''}; {left / 60:.0f} minutes left"
            )
        for worker in self._workers.values():
            worker.close()
        for key, error in self._workshop.failures.items():
            self._keep({"contender": key, "error": error})

    def _settle(self, contender: Contender, model: str, threads: int, path: pathlib.Path) -> None:
        """Times one pass of each way to run the contender; the largest geometric mean of its figures decides."""
        variants = importlib.import_module(f"peers.{contender.engine}").VARIANTS
        if contender.key in self._choices and not self._choices[contender.key]["disturbed"]:
            return
        timed, disturbed = {}, False
        for name, settings in variants.items() if len(variants) > 1 else []:
            self._choices[contender.key] = {"settings": settings}
            record = self._undisturbed("settle", model, threads, contender, path)
            disturbed |= record["disturbed"]
            if "error" not in record:
                figures = {phase["name"]: record[phase["name"]] for phase in self._phases}
                timed[name] = figures | {"mean": math.prod(figures.values()) ** (1 / len(figures))}
            say(f"{contender.title} {contender.precision}, {name}: {record.get('error') or round(timed[name]['mean'])}")
        best = max(timed, key=lambda name: timed[name]["mean"], default=next(iter(variants)))
        self._choices[contender.key] = {
            "settings": variants[best], "name": best, "timed": timed, "disturbed": disturbed,
        }  # fmt: skip
        self._choices_file.write_text(json.dumps(self._choices, indent=1), encoding="utf-8")

    # MARK: A pass

    def _pass(
        self, number: int, model: str, threads: int, contender: Contender, path: pathlib.Path, is_cold: bool
    ) -> dict:
        """Of a cold pass nothing but its first token is measured, with the model's files dropped from the page cache."""
        record = self._undisturbed(f"{number} {model} {threads}", model, threads, contender, path, is_cold)
        at = {"round": number, "model": model, "threads": threads, "is_cold": is_cold, "contender": contender.key}
        variant = self._choices.get(contender.key, {}).get("name", "")
        return record | at | {"variant": variant, "file_bytes": size(path)}

    def _undisturbed(
        self, seed: str, model: str, threads: int, contender: Contender, path: pathlib.Path, is_cold: bool = False
    ) -> dict:
        """The least disturbed of as many attempts as are allowed, or the first that nothing disturbed."""
        best = None
        for _ in range(self._retries + 1):
            record = self._attempt(seed, model, threads, contender, path, is_cold)
            if best is None or record["others"] < best["others"]:
                best = record
            if "error" in record or record["others"] <= _DISTURBANCE:
                break
        return best | {"disturbed": best["others"] > _DISTURBANCE}

    def _attempt(
        self, seed: str, model: str, threads: int, contender: Contender, path: pathlib.Path, is_cold: bool
    ) -> dict:
        with self._turn():
            return self._timed(seed, model, threads, contender, path, is_cold)

    @contextlib.contextmanager
    def _turn(self):
        """Holds the lock, if one was named, so that other heavy work can run between passes but not during one.

        Once taken it is kept for some passes: whoever waits for it works for minutes.
        """
        if self._lock and self._turn_started is None:
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            self._turn_started = time.monotonic()
            # The last probe is one of another time.
            self._probes = {}
        yield
        if self._lock and time.monotonic() - self._turn_started > _TURN_SECONDS:
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            self._turn_started = None
            time.sleep(1)

    def _timed(
        self, seed: str, model: str, threads: int, contender: Contender, path: pathlib.Path, is_cold: bool
    ) -> dict:
        # A cold pass is bound by the disk: it is not probed, and would leave the next pass a cold probe.
        before = 0.0 if is_cold else self._probe(model, threads)
        phases = [] if is_cold else self._phases
        # A worker imports its engine before the clock starts.
        worker = None if contender.engine == "lathe" else self._worker(contender.engine, threads)
        if is_cold:
            machine.drop_cached(path)
        wall, busy, children = time.monotonic(), machine.busy_seconds(), _seconds_of_children()
        if worker is None:
            answer = lathe_engine.measure(self._workshop.lathe, path, threads, phases, seed, contender.isa)
            own = _seconds_of_children() - children
        else:
            answer = worker.measure(
                {
                    "path": str(path), "precision": contender.precision, "threads": threads, "seed": seed,
                    "vocabulary": VOCABULARY, "first_prompt": FIRST_PROMPT, "phases": phases,
                    "settings": self._choices[contender.key]["settings"],
                }
            )  # fmt: skip
            answer |= {"versions": worker.versions}
            own = answer.get("processor_seconds", 0)
        elapsed = time.monotonic() - wall
        others = max(0.0, machine.busy_seconds() - busy - own) / (elapsed * os.cpu_count())
        after = 0.0 if is_cold else self._probe(model, threads, fresh=True)
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


def _in_turn(plan: list[tuple[str, int, Contender]], number: int) -> list[tuple[str, int, Contender]]:
    """Model by model, its contenders and threads in an order of the round's own."""
    shuffled = random.Random(number).sample(plan, len(plan))
    return sorted(shuffled, key=lambda place: (MODELS.index(place[0]), place[1]))


def _seconds_of_children() -> float:
    times = os.times()
    return times.children_user + times.children_system


# MARK: The command


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = {title.lower(): engine for engine, title in ENGINES.items()}
    parser.add_argument("--lathe", type=pathlib.Path, default=pathlib.Path(".build/release/lathe"))
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path(".build/compare"))
    parser.add_argument("--docs", type=pathlib.Path, default=pathlib.Path("docs"), help="where the report goes")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--peers", default=",".join(names), help="engines, Lathe among them: %(default)s")
    parser.add_argument("--precisions", default="float,int8,blocks,int4,int4-sparse")
    parser.add_argument("--phases", default=",".join(phase["name"] for phase in PHASES))
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--full", action="store_true", help="float on one thread, gpt2-medium on one or in float, too")
    parser.add_argument("--best-isa", action="store_true", help="Lathe at the machine's best instruction set alone")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--retries", type=int, default=1, help="of a pass that other work disturbed")
    parser.add_argument("--redo-disturbed", action="store_true", help="measure passes again that other work disturbed")
    parser.add_argument("--lock", type=pathlib.Path, help="a file whose flock each pass holds, to take turns with builds")
    parser.add_argument("--fresh", action="store_true", help="forget earlier passes and choices")
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
    if not arguments.report_only:
        levels = {None} if arguments.best_isa else {None, *lathe_engine.lowered_levels(arguments.lathe)}
        arguments.contenders = [contender for contender in arguments.contenders if contender.isa in levels]
    return arguments


def main() -> None:
    arguments = _arguments()
    workshop = Workshop(arguments.work, arguments.lathe)
    if not arguments.report_only:
        workshop.install()
    venv = workshop.python.parent.parent
    if venv.exists() and pathlib.Path(sys.prefix).resolve() != venv.resolve():
        # Whatever is written next may use the installed packages.
        os.execv(workshop.python, [str(workshop.python), *sys.argv])
    results = workshop.work / "results.jsonl"
    if not arguments.report_only:
        if arguments.fresh:
            results.unlink(missing_ok=True)
            (workshop.work / "choices.json").unlink(missing_ok=True)
        (workshop.work / "machine.json").write_text(json.dumps(machine.description(workshop.lathe)))
        phases = [phase for phase in PHASES if phase["name"] in arguments.phases.split(",")]
        comparison = Comparison(
            workshop, arguments.contenders, phases, arguments.retries, arguments.redo_disturbed, arguments.lock
        )
        counts = [int(count) for count in arguments.threads.split(",")]
        comparison.run(arguments.models.split(","), counts, arguments.rounds, arguments.full)
    report.write(read(results), json.loads((workshop.work / "machine.json").read_text()), arguments.docs)


if __name__ == "__main__":
    main()
