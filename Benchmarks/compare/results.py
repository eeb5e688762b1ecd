"""Passes, gathered: medians, spread and who is ahead."""

import dataclasses
import json
import pathlib
import statistics
from collections.abc import Callable

from matrix import CONTENDERS, ENGINES, Contender


@dataclasses.dataclass(frozen=True)
class Measure:
    name: str
    title: str
    unit: str
    value: Callable[[dict], float | None]
    more_is_better: bool
    # Whether it differs by threads.
    per_threads: bool = True


MEASURES = [
    Measure("prefill_128", "Prefill, 128 tokens", "tokens/s", lambda r: r.get("prefill_128"), True),
    Measure("prefill_512", "Prefill, 512 tokens", "tokens/s", lambda r: r.get("prefill_512"), True),
    Measure("decode", "Decode, 128 after 32", "tokens/s", lambda r: r.get("decode"), True),
    Measure("batch_8", "Decode, 8 at once", "tokens/s", lambda r: r.get("batch_8"), True),
    Measure("first_token", "Load to first token", "ms", lambda r: _scaled(r, "first_token_seconds", 1e3), False),
    Measure("cold", "The same, file not cached", "ms", lambda r: _scaled(r, "cold_first_token_seconds", 1e3), False),
    Measure("peak", "Peak memory over imports", "MB", lambda r: _peak(r), False),
    Measure("whole_peak", "Peak memory, whole process", "MB", lambda r: _scaled(r, "peak_resident_bytes", 1e-6), False),
    Measure("file", "File", "MB", lambda r: _scaled(r, "file_bytes", 1e-6), False, per_threads=False),
]


def _scaled(record: dict, key: str, factor: float) -> float | None:
    return record[key] * factor if key in record else None


def _peak(record: dict) -> float | None:
    """Lathe's is all of its process: it imports nothing."""
    if "peak_resident_bytes" not in record:
        return None
    return (record["peak_resident_bytes"] - record["imported_resident_bytes"]) / 1e6


def place(record: dict) -> tuple:
    """Which pass of a contender a record is of; an earlier record of the same place is forgotten."""
    return record.get("round"), record.get("model"), record.get("threads"), record.get("is_cold", False)


def read(path: pathlib.Path) -> list[dict]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Results:
    def __init__(self, records: list[dict]) -> None:
        # Why what was not measured was not, and passes that failed beside others that did not.
        self.failures = {}
        self.failed_passes: list[str] = []
        self.passes: dict[tuple[str, int, str], dict[int, dict]] = {}
        latest = {(*place(record), record["contender"]): record for record in records}
        cold = {at: record for at, record in latest.items() if record.get("is_cold") and "error" not in record}
        for at, record in latest.items():
            if record.get("is_cold"):
                continue
            if "error" in record:
                self.failures[record["contender"]] = record["error"]
                if "round" in record:
                    where = f"{record['model']}, {record['threads']} threads, round {record['round'] + 1}"
                    self.failed_passes.append(f"{title(record['contender'])}, {where}: {record['error']}")
            else:
                number, model, threads, _, contender = at
                cold_record = cold.get((number, model, threads, True, contender), {})
                added = {"cold_first_token_seconds": seconds} if (seconds := cold_record.get("first_token_seconds")) else {}
                self.passes.setdefault((model, threads, contender), {})[number] = record | added
        for _, _, key in self.passes:
            self.failures.pop(key, None)
        self.models = _ordered(model for model, _, _ in self.passes)
        self.rounds = max((len(passes) for passes in self.passes.values()), default=0)

    def threads(self, model: str) -> list[int]:
        return sorted({threads for name, threads, _ in self.passes if name == model})

    def contenders(self, model: str, group: str | None) -> list[Contender]:
        """Those of a contest; of none: what stands beside them. Lowered instruction sets have a table of their own."""
        present = {key for name, _, key in self.passes if name == model}
        return [c for c in CONTENDERS if c.group == group and c.isa is None and c.key in present]

    def lowered(self, model: str, precision: str) -> list[Contender]:
        present = {key for name, _, key in self.passes if name == model}
        return [c for c in CONTENDERS if c.isa and c.precision == precision and c.key in present]

    def values(self, model: str, threads: int, contender: Contender, measure: Measure) -> dict[int, float]:
        """By round."""
        passes = self.passes.get((model, threads, contender.key), {})
        values = {number: measure.value(record) for number, record in passes.items()}
        return {number: value for number, value in values.items() if value is not None}

    def median(self, model: str, threads: int, contender: Contender, measure: Measure) -> float | None:
        values = self.values(model, threads, contender, measure)
        return statistics.median(values.values()) if values else None

    def winner(self, model: str, threads: int, group: str, measure: Measure) -> Contender | None:
        """The best of a contest; between Lathe and the best peer their rounds decide, not their medians."""
        lead = self.lead(model, threads, group, measure)
        if lead is None:
            return self._best(model, threads, measure, self.contenders(model, group))
        ratio, peer = lead
        return next(c for c in self.contenders(model, group) if c.engine == "lathe") if ratio >= 1 else peer

    def lead(self, model: str, threads: int, group: str, measure: Measure) -> tuple[float, Contender] | None:
        """How many times better Lathe is than the best peer, a median over rounds that measured both; and that peer."""
        lathe = next((c for c in self.contenders(model, group) if c.engine == "lathe"), None)
        return lathe and self.lead_of(lathe, model, threads, group, measure)

    def lead_of(
        self, lathe: Contender, model: str, threads: int, group: str, measure: Measure
    ) -> tuple[float, Contender] | None:
        peers = [contender for contender in self.contenders(model, group) if contender.engine != "lathe"]
        peer = self._best(model, threads, measure, peers)
        if peer is None:
            return None
        ours, theirs = (self.values(model, threads, contender, measure) for contender in (lathe, peer))
        ratios = [ours[number] / theirs[number] for number in ours.keys() & theirs.keys()]
        if not ratios:
            return None
        ratio = statistics.median(ratios)
        return (ratio if measure.more_is_better else 1 / ratio), peer

    def _best(self, model: str, threads: int, measure: Measure, contenders: list[Contender]) -> Contender | None:
        medians = [(self.median(model, threads, contender, measure), contender) for contender in contenders]
        medians = [(value, contender) for value, contender in medians if value is not None]
        if not medians:
            return None
        return (max if measure.more_is_better else min)(medians, key=lambda pair: pair[0])[1]

    # MARK: Checks

    def disturbed(self) -> tuple[int, int]:
        passes = [record for by_round in self.passes.values() for record in by_round.values()]
        return sum(record["disturbed"] for record in passes), len(passes)

    def probes(self, model: str, threads: int) -> list[float]:
        return [
            record["probe"]
            for (name, count, _), by_round in self.passes.items()
            if (name, count) == (model, threads)
            for record in by_round.values()
        ]

    def versions(self) -> dict[str, str]:
        versions = {}
        for by_round in self.passes.values():
            for record in by_round.values():
                versions |= record.get("versions", {})
        return versions

    def variants(self, engine: str) -> dict[str, str]:
        """The way in which each contender of an engine was run, where there was a choice."""
        found = {}
        for (_, _, key), by_round in self.passes.items():
            names = {record.get("variant", "") for record in by_round.values()} - {""}
            if key.startswith(engine) and names:
                found[key] = " and ".join(sorted(names))
        return found

    def agreement(self, model: str) -> dict[str, tuple[int, int]]:
        """First tokens that equal those of PyTorch in float32 on the same prompts; of all."""
        result = {}
        for contender in CONTENDERS:
            same = total = 0
            for threads in self.threads(model):
                reference = self.passes.get((model, threads, "torch_/float"), {})
                for number, record in self.passes.get((model, threads, contender.key), {}).items():
                    if number in reference and reference[number]["seed"] == record["seed"]:
                        pairs = list(zip(record["first_tokens"], reference[number]["first_tokens"], strict=False))
                        same += sum(a == b for a, b in pairs)
                        total += len(pairs)
            if total and contender.key != "torch_/float":
                result[contender.key] = (same, total)
        return result


def title(key: str) -> str:
    engine, _, rest = key.partition("/")
    precision, _, isa = rest.partition("@")
    return ", ".join([ENGINES[engine], precision, *([isa] if isa else [])]) if precision else key


def _ordered(models) -> list[str]:
    from matrix import MODELS

    present = set(models)
    return [model for model in MODELS if model in present]
