#!/usr/bin/env python3
"""Loads lathe-serve as its users will, beside llama.cpp's server, and writes docs/service.md.

    python3 Benchmarks/load/load.py speed     requests/s, time to first token, tokens/s at 1, 8, 32 clients
    python3 Benchmarks/load/load.py stall     time between tokens while long prompts come in
    python3 Benchmarks/load/load.py overload  2, 10, 100 times as many clients as sessions, by wrk, in 700 MB
    python3 Benchmarks/load/load.py soak      30 minutes of mixed requests: memory must stay flat

Clients run at a lower priority than the servers (nice 10). Results go to .build/load/*.json; `report` writes them down.
"""

import argparse
import asyncio
import json
import os
import pathlib
import pickle
import random
import shutil
import statistics
import subprocess
import sys
import time

import client
import report
import servers

WORDS = "the sea was calm and an old man with a lantern walked along the shore to find what night had left there".split()


def body(seed: str, tokens: int, prompt_words: int = 32) -> dict:
    """A prompt of its own each time; as long for everyone."""
    source = random.Random(seed)
    prompt = " ".join(source.choice(WORDS) for _ in range(prompt_words))
    return {
        "prompt": prompt, "max_tokens": tokens, "temperature": 0, "stream": True,
        "stream_options": {"include_usage": True},
    }  # fmt: skip


def summary(outcomes: list[client.Outcome], seconds: float) -> dict:
    done = [outcome for outcome in outcomes if outcome.status == 200 and outcome.is_complete]
    first = [outcome.first_token for outcome in done if outcome.first_token is not None]
    gaps = [gap for outcome in done for gap in outcome.gaps]
    return {
        "requests": len(outcomes), "completed": len(done), "requests_per_second": len(done) / seconds,
        "tokens_per_second": sum(outcome.tokens for outcome in done) / seconds,
        "first_token_p50_seconds": client.percentile(first, 0.5), "first_token_p99_seconds": client.percentile(first, 0.99),
        "gap_p50_seconds": client.percentile(gaps, 0.5), "gap_p99_seconds": client.percentile(gaps, 0.99),
    }  # fmt: skip


def speed(arguments: argparse.Namespace) -> None:
    results = []
    for name, model in arguments.models:
        contenders = [("Lathe", lambda model=model: servers.lathe(arguments.program, model, arguments.log, *arguments.options))]
        if arguments.llama_python and name in arguments.gguf:
            contenders.append(
                ("llama.cpp", lambda name=name: servers.llama_cpp(
                    arguments.llama_python, arguments.gguf[name], arguments.log, arguments.threads, arguments.llama_path))
            )  # fmt: skip
        for number in range(arguments.rounds):
            for title, start in contenders if number % 2 == 0 else reversed(contenders):
                server = start()
                target = client.Target("127.0.0.1", server.port)
                niced(client.closed_loop(target, 1, 1, lambda c, n: body(f"warm {c} {n}", 16)))
                for clients in arguments.clients:
                    outcomes, seconds = niced(
                        client.closed_loop(
                            target, clients, arguments.seconds,
                            lambda c, n, number=number: body(f"{number} {c} {n}", arguments.tokens),
                        )
                    )  # fmt: skip
                    result = {"model": name, "server": title, "clients": clients, "round": number, **summary(outcomes, seconds)}
                    results.append(result | {"peak_resident_bytes": server.memory("VmHWM")})
                    say(f"{name}, {title}, {clients} clients: {result['tokens_per_second']:.0f} tokens/s, first token p50 "
                        f"{1e3 * (result['first_token_p50_seconds'] or 0):.0f} ms")  # fmt: skip
                server.stop()
    keep("speed", {"tokens": arguments.tokens, "threads": arguments.threads, "results": results})


def stall(arguments: argparse.Namespace) -> None:
    """Four streams, without and with a client that sends one prompt of nearly a whole context after the other."""
    results = []
    for name, model in arguments.models:
        server = servers.lathe(arguments.program, model, arguments.log, "--sessions", str(arguments.sessions), *arguments.options)
        target = client.Target("127.0.0.1", server.port)
        context = server.ask("/v1/models")["data"][0]["context_length"]
        long_tokens = context - 32

        def long_body(index: int, number: int) -> dict:
            source = random.Random(f"long {index} {number}")
            ids = [source.randrange(1000) for _ in range(long_tokens)]
            return body("", 1) | {"prompt": ids, "max_tokens": 1}

        async def both(number: int, with_long: bool) -> tuple[list[client.Outcome], float, int]:
            loops = [client.closed_loop(target, 4, arguments.seconds, lambda c, n: body(f"{number} {c} {n}", arguments.tokens))]
            if with_long:
                loops.append(client.closed_loop(target, 1, arguments.seconds, long_body))
            (outcomes, seconds), *rest = await asyncio.gather(*loops)
            return outcomes, seconds, sum(1 for o in rest[0][0] if o.status == 200) if rest else 0

        for number in range(arguments.rounds):
            for with_long in (False, True) if number % 2 == 0 else (True, False):
                outcomes, seconds, prompts = niced(both(number, with_long))
                longest = max((gap for outcome in outcomes for gap in outcome.gaps), default=None)
                results.append({
                    "model": name, "round": number, "long": with_long, "long_tokens": long_tokens, "long_prompts": prompts,
                    "gap_longest_seconds": longest, **summary(outcomes, seconds),
                })  # fmt: skip
                say(f"{name}, {prompts} long prompts: between tokens p99 {1e3 * results[-1]['gap_p99_seconds']:.1f} ms")
        server.stop()
    keep("stall", {"tokens": arguments.tokens, "results": results})


def refusals(server: servers.Server) -> dict[str, int]:
    """The server's own count of refusals by how long they took, from the head read to the reply written."""
    counts: dict[str, int] = {}
    for line in server.text("/metrics").splitlines():
        if line.startswith("lathe_http_request_duration_seconds_bucket{") and ('status="429"' in line or 'status="503"' in line):
            bound = line.split('le="')[1].split('"')[0]
            counts[bound] = counts.get(bound, 0) + int(float(line.rsplit(" ", 1)[1]))
    return counts


def overload(arguments: argparse.Namespace) -> None:
    """wrk keeps the server overloaded; a polite client beside it times how soon it is refused or answered."""
    results = []
    for name, model in arguments.models:
        options = ["--sessions", str(arguments.sessions), "--memory-budget", arguments.memory, *arguments.options]
        server = servers.lathe(arguments.program, model, arguments.log, *options)
        target = client.Target("127.0.0.1", server.port)
        idle = server.memory("VmRSS")
        for factor in arguments.factors:
            connections = factor * arguments.sessions
            before = refusals(server)
            script = pathlib.Path(__file__).with_name("overload.lua")
            wrk = subprocess.Popen(
                ["nice", "-n", "10", "wrk", "-c", str(connections), "-t", "1", "-d", f"{arguments.seconds:.0f}", "--timeout", "120", "-s", str(script),
                 f"http://127.0.0.1:{server.port}/v1/completions", "--", str(arguments.tokens)],
                stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            probes = niced(polite(target, arguments.seconds - 1, arguments.tokens))
            output, _ = wrk.communicate()
            told = json.loads(output.strip().splitlines()[-1])
            after = {bound: count - before.get(bound, 0) for bound, count in refusals(server).items()}
            statuses: dict[str, int] = {}
            for part in told["statuses"]:
                for status, count in part.items():
                    statuses[status] = statuses.get(status, 0) + count
            refused = [p.seconds for p in probes if p.status in (429, 503)]
            served = [p.seconds for p in probes if p.status == 200]
            result = {
                "model": name, "factor": factor, "connections": connections, "statuses": statuses,
                "connect_errors": told["connect_errors"], "read_errors": told["read_errors"], "timeouts": told["timeouts"],
                "refusal_p50_seconds": client.percentile(refused, 0.5), "refusal_p99_seconds": client.percentile(refused, 0.99),
                "refusals_with_retry_after": sum(1 for p in probes if p.status in (429, 503) and p.retry_after),
                "server_refusals": after, "refusals": len(refused), "served_p99_seconds": client.percentile(served, 0.99), "served": len(served),
                "resident_bytes": server.memory("VmRSS"), "peak_resident_bytes": server.memory("VmHWM"),
                "idle_resident_bytes": idle, "is_running": server.is_running,
            }  # fmt: skip
            results.append(result)
            say(f"{name}, {factor}×: {statuses}, refused after {result['refusal_p50_seconds']} s, "
                f"peak {result['peak_resident_bytes'] / 1e6:.0f} MB")  # fmt: skip
        time.sleep(2)
        results[-1]["resident_after_bytes"] = server.memory("VmRSS")
        results[-1]["exit_status"] = server.stop()
    keep("overload", {"sessions": arguments.sessions, "memory": arguments.memory, "tokens": arguments.tokens, "results": results})


async def polite(target: client.Target, seconds: float, tokens: int) -> list[client.Outcome]:
    """Ten requests a second, whatever becomes of them."""
    started = time.perf_counter()
    tasks = []
    while time.perf_counter() - started < seconds:
        tasks.append(asyncio.create_task(client.stream(target, body(f"polite {len(tasks)}", tokens, 8) | {"stream": False})))
        await asyncio.sleep(0.1)
    return await asyncio.gather(*tasks)


def soak(arguments: argparse.Namespace) -> None:
    """Mixed clients for a long time; resident memory every ten seconds."""
    [(name, model), *_] = arguments.models
    options = ["--sessions", str(arguments.sessions), "--memory-budget", arguments.memory, *arguments.options]
    server = servers.lathe(arguments.program, model, arguments.log, *options)
    target = client.Target("127.0.0.1", server.port)
    samples = []

    async def watch(done: asyncio.Event) -> None:
        started = time.perf_counter()
        while not done.is_set():
            samples.append((time.perf_counter() - started, server.memory("VmRSS")))
            await asyncio.sleep(10)

    async def hang_up(seconds: float) -> int:
        """Clients that go in the middle of a stream."""
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            reader, writer = await asyncio.open_connection(target.host, target.port)
            writer.write(target.request(body(f"gone {count}", 200)))
            await reader.read(300)
            writer.close()
            count += 1
            await asyncio.sleep(0.5)
        return count

    async def everything() -> tuple[list[client.Outcome], float, int]:
        done = asyncio.Event()
        watcher = asyncio.create_task(watch(done))
        (outcomes, seconds), gone = await asyncio.gather(
            client.closed_loop(
                target, 2 * arguments.sessions, arguments.seconds,
                lambda c, n: body(f"soak {c} {n}", random.Random(f"{c} {n}").randrange(1, 120), 1 + n % 60),
            ),
            hang_up(arguments.seconds),
        )  # fmt: skip
        done.set()
        await watcher
        return outcomes, seconds, gone

    outcomes, seconds, gone = asyncio.run(everything())
    statuses = {}
    for outcome in outcomes:
        statuses[outcome.status] = statuses.get(outcome.status, 0) + 1
    quarter = len(samples) // 4
    middle = [statistics.median(size for _, size in part) for part in (samples[quarter : 2 * quarter], samples[-quarter:])]
    keep("soak", {
        "model": name, "seconds": seconds, "statuses": statuses, "hung_up": gone, **summary(outcomes, seconds),
        "second_quarter_resident_bytes": middle[0], "last_quarter_resident_bytes": middle[1],
        "peak_resident_bytes": server.memory("VmHWM"), "samples": samples, "exit_status": server.stop(),
    })  # fmt: skip
    say(f"{seconds:.0f} s: {statuses}, {gone} hung up; resident {middle[0] / 1e6:.1f} → {middle[1] / 1e6:.1f} MB")


# MARK: The command


def niced(work):
    """The result of a coroutine, run in a process of lower priority than the servers'."""
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiving)
        os.nice(10)
        with os.fdopen(sending, "wb") as pipe:
            pickle.dump(asyncio.run(work), pipe)
        os._exit(0)
    os.close(sending)
    work.close()
    with os.fdopen(receiving, "rb") as pipe:
        result = pipe.read()
    os.waitpid(child, 0)
    return pickle.loads(result)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def keep(name: str, result: dict) -> None:
    folder = pathlib.Path(".build/load")
    folder.mkdir(parents=True, exist_ok=True)
    record = result | {"date": time.strftime("%Y-%m-%d"), "cores": len(os.sched_getaffinity(0))}
    (folder / f"{name}.json").write_text(json.dumps(record, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["speed", "stall", "overload", "soak", "report"])
    parser.add_argument("--program", type=pathlib.Path, default=pathlib.Path(".build/release/lathe-serve"))
    parser.add_argument("--model", action="append", default=[], metavar="NAME=FILE", help="a .lathe file; may be repeated")
    parser.add_argument("--gguf", action="append", default=[], metavar="NAME=FILE", help="the same model for llama.cpp")
    parser.add_argument("--llama-python", type=pathlib.Path, help="a Python with llama-cpp-python[server]")
    parser.add_argument("--llama-path", type=pathlib.Path, action="append", default=[], help="for its PYTHONPATH")
    parser.add_argument("--clients", default="1,8,32")
    parser.add_argument("--factors", default="2,10,100")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--sessions", type=int, default=8)
    parser.add_argument("--memory", default="700MB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--option", dest="options", action="append", default=[], help="for lathe-serve, as --option=--queue=8")
    parser.add_argument("--docs", type=pathlib.Path, default=pathlib.Path("docs"))
    arguments = parser.parse_args()
    if arguments.what == "report":
        report.write(pathlib.Path(".build/load"), arguments.docs)
        return
    arguments.models = [tuple(entry.split("=", 1)) for entry in arguments.model]
    arguments.gguf = {name: pathlib.Path(path) for name, path in (entry.split("=", 1) for entry in arguments.gguf)}
    arguments.clients = [int(count) for count in arguments.clients.split(",")]
    arguments.factors = [int(factor) for factor in arguments.factors.split(",")]
    arguments.log = pathlib.Path(".build/load/log.txt")
    arguments.log.parent.mkdir(parents=True, exist_ok=True)
    if not arguments.models:
        parser.error("name a model: --model gpt2=gpt2.lathe")
    if arguments.what == "overload" and not shutil.which("wrk"):
        sys.exit("wrk is missing: apt-get install wrk")
    {"speed": speed, "stall": stall, "overload": overload, "soak": soak}[arguments.what](arguments)


if __name__ == "__main__":
    main()
