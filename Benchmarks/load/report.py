"""Writes docs/service.md from what load.py has kept."""

import json
import pathlib
import statistics


def write(results: pathlib.Path, docs: pathlib.Path) -> None:
    found = {path.stem: json.loads(path.read_text()) for path in sorted(results.glob("*.json"))}
    parts = ["# The service under load", "", "Written by `make load`, from what `Benchmarks/load/load.py` measured."]
    for name, section in (("speed", _speed), ("stall", _stall), ("overload", _overload), ("soak", _soak)):
        if name in found:
            parts += ["", *section(found[name])]
    (docs / "service.md").write_text("\n".join(parts) + "\n")


def _speed(record: dict) -> list[str]:
    rows = [
        f"## Speed ({record['date']}, {record['cores']} cores)",
        "",
        f"Clients that each send one streaming completion after the other: 32 words of prompt, {record['tokens']} new tokens, greedy. "
        f"Servers have {record['threads']} compute threads; lathe-serve answers from one event loop beside them. Clients run on the "
        "same cores at a lower priority. Medians over rounds that alternate between the servers.",
        "",
        "| Model | Server | Clients | Requests/s | Tokens/s | of one client | First token p50, ms | p99 | Between tokens p50, ms | p99 | Peak, MB |",
        "| :-- | :-- | --: | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    groups: dict[tuple, list[dict]] = {}
    for result in record["results"]:
        groups.setdefault((result["model"], result["server"], result["clients"]), []).append(result)
    middle = lambda key, field: _median(result[field] for result in groups[key])  # noqa: E731
    for key in groups:
        model, server, clients = key
        one = middle((model, server, min(c for m, s, c in groups if (m, s) == (model, server))), "tokens_per_second")
        tokens = middle(key, "tokens_per_second")
        cells = [
            f"{middle(key, 'requests_per_second'):.1f}", f"{tokens:.0f}", f"×{tokens / one:.2f}",
            *(_milliseconds(middle(key, f"first_token_{p}_seconds")) for p in ("p50", "p99")),
            *(_milliseconds(middle(key, f"gap_{p}_seconds")) for p in ("p50", "p99")),
            f"{middle(key, 'peak_resident_bytes') / 1e6:.0f}",
        ]  # fmt: skip
        rows.append(f"| {model} | {server} | {clients} | {' | '.join(cells)} |")
    return rows


def _overload(record: dict) -> list[str]:
    rows = [
        f"## Overload ({record['date']})",
        "",
        f"`wrk` keeps 2, 10, 100 times as many connections busy as there are sessions ({record['sessions']}), each asking for "
        f"{record['tokens']} tokens; beside it ten polite requests a second are timed, and counted too. Budget {record['memory']}. \"In the server\" counts every refusal, from its head read to its reply written; the "
        "other times are a client's, which waits for a processor beside `wrk` and the server.",
        "",
        "| Model | Load | Answered 200 | Refused 429/503 | Other | In the server within 50 ms | Refusal p50, ms | p99 | With Retry-After | Served p99, s | Resident, MB | Peak, MB |",
        "| :-- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for result in record["results"]:
        statuses = {int(status): count for status, count in result["statuses"].items()}
        refused = statuses.get(429, 0) + statuses.get(503, 0)
        other = sum(statuses.values()) - refused - statuses.get(200, 0)
        answered, refused = statuses.get(200, 0) + result["served"], refused + result["refusals"]
        other += result["connect_errors"] + result["read_errors"] + result["timeouts"]
        served = result["served_p99_seconds"]
        cells = [
            str(answered), str(refused), str(other), _share(result["server_refusals"]), _milliseconds(result["refusal_p50_seconds"]),
            _milliseconds(result["refusal_p99_seconds"]),
            f"{result['refusals_with_retry_after']}/{result['refusals']}", "–" if served is None else f"{served:.2f}",
            f"{result['resident_bytes'] / 1e6:.1f}", f"{result['peak_resident_bytes'] / 1e6:.1f}",
        ]  # fmt: skip
        rows.append(f"| {result['model']} | {result['factor']}× | {' | '.join(cells)} |")
    return rows


def _stall(record: dict) -> list[str]:
    rows = [
        f"## Long prompts beside streams ({record['date']})",
        "",
        f"Four clients stream {record['tokens']} tokens each, again and again; then the same while a fifth sends one prompt of nearly a "
        "whole context after the other. Beside streams prompts are read in chunks of 64 tokens, one a step. Medians over rounds.",
        "",
        "| Model | Long prompts | Between tokens p50, ms | p99 | longest | Tokens/s of the streams |",
        "| :-- | :-- | --: | --: | --: | --: |",
    ]
    for model in dict.fromkeys(result["model"] for result in record["results"]):
        for with_long in (False, True):
            found = [r for r in record["results"] if r["model"] == model and r["long"] == with_long]
            title = "none"
            if with_long:
                title = f"{_median(r['long_prompts'] for r in found):.0f} of {found[0]['long_tokens']} tokens"
            cells = [_milliseconds(_median(r[f"gap_{which}_seconds"] for r in found)) for which in ("p50", "p99", "longest")]
            cells.append(f"{_median(r['tokens_per_second'] for r in found):.0f}")
            rows.append(f"| {model} | {title} | {' | '.join(cells)} |")
    return rows


def _share(buckets: dict) -> str:
    total = buckets.get("+Inf", 0)
    return f"{100 * buckets['0.05'] / total:.1f} %" if total else "–"


def _soak(record: dict) -> list[str]:
    first, last = (record[f"{part}_quarter_resident_bytes"] / 1e6 for part in ("second", "last"))
    statuses = ", ".join(f"{count} × {status}" for status, count in sorted(record["statuses"].items()))
    return [
        f"## Soak ({record['date']})",
        "",
        f"{record['model']}, {record['seconds'] / 60:.0f} minutes of mixed streams and {record['hung_up']} clients that hung up in "
        f"the middle of one: {statuses}; {record['tokens_per_second']:.0f} tokens/s. Median resident memory of the second quarter "
        f"{first:.1f} MB, of the last {last:.1f} MB; peak {record['peak_resident_bytes'] / 1e6:.1f} MB. Exit status after SIGTERM: "
        f"{record['exit_status']}.",
    ]


def _median(values) -> float | None:
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def _milliseconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{1e3 * seconds:.1f}"
