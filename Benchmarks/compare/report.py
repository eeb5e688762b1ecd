"""Writes docs/benchmarks.md and its drawings from the passes."""

import importlib
import json
import pathlib
import statistics

import charts
from matrix import ENGINES, FIRST_PROMPT, LATHE_OPTIONS, LATHE_PRECISIONS, PHASES, Contender
from results import MEASURES, Measure, Results, title

_GROUPS = {"int8": "int8", "int4": "int4", "float": "float32 and float16"}


def write(records: list[dict], machine: dict, docs: pathlib.Path) -> None:
    results = Results(records)
    docs.mkdir(parents=True, exist_ok=True)
    sections = [_head(machine, results), _summary(results)]
    for model in results.models:
        sections.append(_model(results, model))
        drawing = docs / f"benchmarks-{model}.svg"
        drawing.write_text(charts.draw(results, model, max(results.threads(model))), encoding="utf-8")
    sections += [_method(), _flags(results), _checks(results, machine)]
    (docs / "benchmarks.md").write_text("\n\n".join(sections) + "\n", encoding="utf-8")


# MARK: Head and summary


def _head(machine: dict, results: Results) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in sorted(results.versions().items()))
    virtual = ", a virtual machine" if machine["virtual"] else ""
    rounds = f"{results.rounds} round{'' if results.rounds == 1 else 's'}"
    processor = f"{machine['processor']} ({machine['family']}), {machine['cores']} cores"
    lacks = ", ".join(machine["lacks"]) or "none of those looked for"
    isa = next((r["isa"] for passes in results.passes.values() for r in passes.values() if "isa" in r), "unknown")
    return f"""# Beside other engines

The same random weights (`lathe synthesize`) run by Lathe and by others, in alternating order on one machine. Written by

    make compare

from {rounds}. Speed does not depend on what the weights are; quality is measured in
[quality.md](quality.md).

| | |
| :-- | :-- |
| Date | {machine["date"]} |
| Processor | {processor}{virtual}, {machine["memory_bytes"] / 1e9:.0f} GB |
| Instruction sets | has {", ".join(machine["has"])}; lacks {lacks} |
| System | {machine["system"]} |
| Lathe | {machine["lathe"]["version"]}, commit {machine["lathe"]["commit"]}, level {isa} |
| Others | {versions} |"""


def _summary(results: Results) -> str:
    """How far Lathe is ahead or behind, and every row that a peer wins."""
    lines = [
        "## Summary",
        "",
        "How many times better Lathe is than the best peer of the same precision (above 1: Lathe is ahead, also where",
        "less is better), the median over rounds; in brackets that peer.",
        "",
        "| Model | Threads | Measurement | " + " | ".join(_GROUPS.values()) + " |",
        "| :-- | --: | :-- |" + " --: |" * len(_GROUPS),
    ]
    won = lost = 0
    peers_win = []
    for model, threads, measure in _rows(results):
        cells = []
        for group, name in _GROUPS.items():
            lead = results.lead(model, threads, group, measure)
            if lead is None:
                cells.append("–")
                continue
            ratio, peer = lead
            text = f"{ratio:.2f} ({ENGINES[peer.engine]})"
            winner = results.winner(model, threads, group, measure)
            if winner.engine == "lathe":
                won += 1
            else:
                lost += 1
                text = f"**{text}**"
                row = f"{model}, {name}, {_row_title(measure, threads)}"
                peers_win.append(f"- {row}: **{winner.title}**, {1 / ratio:.2f} ×")
            cells.append(text)
        lines.append(f"| {model} | {threads if measure.per_threads else ''} | {measure.title} | {' | '.join(cells)} |")
    lines += ["", f"Lathe wins {won} of {won + lost} rows."]
    if peers_win:
        lines += ["A peer wins these (bold above), by so much:", "", *peers_win]
    return "\n".join(lines)


def _rows(results: Results):
    for model in results.models:
        counts = results.threads(model)
        for measure in MEASURES:
            for threads in counts if measure.per_threads else counts[-1:]:
                yield model, threads, measure


def _row_title(measure: Measure, threads: int) -> str:
    if not measure.per_threads:
        return measure.title
    return f"{measure.title}, {threads} thread{'' if threads == 1 else 's'}"


# MARK: Tables


def _model(results: Results, model: str) -> str:
    counts = results.threads(model)
    parts = [f"## {model}", "", f"![Speed and memory of every engine on {model}](benchmarks-{model}.svg)"]
    for group, name in _GROUPS.items():
        contenders = results.contenders(model, group)
        if not contenders:
            continue
        if group == "int4":
            contenders = contenders + results.contenders(model, None)
        parts += ["", f"### {model}, {name}", ""]
        heads = [contender.title for contender in contenders]
        parts.append("| | Threads | " + " | ".join(heads) + " | Lathe to best peer |")
        parts.append("| :-- | --: |" + " --: |" * (len(heads) + 1))
        for measure in MEASURES:
            for threads in counts if measure.per_threads else counts[-1:]:
                parts.append(_row(results, model, threads, group, measure, contenders))
    return "\n".join([*parts, *_lowered(results, model)])


def _lowered(results: Results, model: str) -> list[str]:
    """Lathe held down to older instruction sets, each figure with its ratio to the best peer, which is not."""
    lines = []
    for precision in ("int8", "int4"):
        contenders = results.lowered(model, precision)
        if not contenders:
            continue
        heads = " | ".join(f"{contender.isa} | to best peer" for contender in contenders)
        lines += ["", f"### {model}, {precision}, Lathe by instruction set", ""]
        lines += [f"| | Threads | {heads} |", "| :-- | --: |" + " --: | --: |" * len(contenders)]
        for measure in MEASURES:
            if measure.name in ("whole_peak", "file"):
                continue
            for threads in results.threads(model):
                cells = []
                for contender in contenders:
                    lead = results.lead_of(contender, model, threads, precision, measure)
                    cells.append(_cell(list(results.values(model, threads, contender, measure).values()), wins=False))
                    cells.append(f"{lead[0]:.2f}" if lead else "–")
                lines.append(f"| {measure.title}, {measure.unit} | {threads} | {' | '.join(cells)} |")
    return lines


def _row(results: Results, model: str, threads: int, group: str, measure: Measure, contenders: list[Contender]) -> str:
    winner = results.winner(model, threads, group, measure)
    cells = [
        _cell(list(results.values(model, threads, contender, measure).values()), contender == winner)
        for contender in contenders
    ]
    lead = results.lead(model, threads, group, measure)
    last = f"{lead[0]:.2f}" if lead else "–"
    count = threads if measure.per_threads else ""
    return f"| {measure.title}, {measure.unit} | {count} | {' | '.join(cells)} | {last} |"


def _cell(values: list[float], wins: bool) -> str:
    if not values:
        return "–"
    low, middle, high = (_number(value) for value in (min(values), statistics.median(values), max(values)))
    text = f"**{middle}**" if wins else middle
    return text if low == high else f"{text} ({low}–{high})"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


# MARK: How it was measured


def _method() -> str:
    extents = {phase["name"]: phase for phase in PHASES}
    batch = extents["batch_8"]
    short, long = extents["prefill_128"]["runs"], extents["prefill_512"]["runs"]
    steps = f"{batch['new'] - 1} steps after {batch['prompt']} tokens"
    return f"""## How it was measured

- All engines convert one float32 checkpoint. Cells are medians over rounds (least–most); the best of a row is bold.
  "Half pruned" stands outside the contest: its weights are not those of the others.
- Each round measures every engine once, in an order drawn anew, each in a fresh process: load, first token of a prompt
  of {FIRST_PROMPT}, then of each phase a run that is not counted and some that are: {short} of prefill 128, {long} of
  prefill 512, one of decoding 128 tokens after 32, one of {batch["batch"]} sequences at once ({steps}, tokens/s
  summed). Every prompt is another, nothing is cached between them. Prefill ends
  with the first token in hand; only the last
  position goes through the head. Tokens are the likeliest ones.
- Ratios to Lathe are taken within a round, then their median. Read bandwidth is probed before and after each pass, with
  the pass's threads.
- *By instruction set*: `LATHE_ISA` lowers Lathe alone; its peers run at the best that they find.
- *Load to first token*: peers: from loading the model to the first token, their modules imported already. Lathe: the
  whole process, from its start to its end. With the file in the page cache, and in passes of their own without it.
- *Peak memory*: VmHWM after the phases with one sequence; mapped files count. Over imports: less what the Python
  process held before loading. Lathe has nothing to take off: its figure is the whole process in both rows.
- A pass during which other work took more than 5 % of the machine is repeated; if it stays disturbed it counts, and is
  told below."""


def _flags(results: Results) -> str:
    lines = ["## Engines and their flags", ""]
    used = {key for _, _, key in results.passes} | set(results.failures)
    for precision, text in LATHE_PRECISIONS.items():
        if f"lathe/{precision}" in used:
            lines.append(f"- Lathe, {precision}: {text}; `lathe quantize {' '.join(LATHE_OPTIONS[precision])}`")
    for engine in ENGINES:
        if engine == "lathe":
            continue
        adapter = importlib.import_module(f"peers.{engine}")
        for precision, text in adapter.PRECISIONS.items():
            if f"{engine}/{precision}" in used:
                lines.append(f"- {ENGINES[engine]}, {precision}: {text}")
        if any(key.startswith(engine) for key in used):
            lines.append(f"  - {adapter.FLAGS}")
        for key, variant in results.variants(engine).items():
            lines.append(f"  - {title(key)}: {variant}, the fastest of {', '.join(adapter.VARIANTS)}")
    return "\n".join(lines)


# MARK: Checks


def _checks(results: Results, machine: dict) -> str:
    disturbed, total = results.disturbed()
    lines = ["## Checks", "", f"- Disturbed passes: {disturbed} of {total}."]
    for model in results.models:
        for threads in results.threads(model):
            probes = [probe / 1e9 for probe in results.probes(model, threads)]
            lines.append(
                f"- Read bandwidth during {model}, {threads} thread{'' if threads == 1 else 's'}: "
                f"{statistics.median(probes):.1f} GB/s ({min(probes):.1f}–{max(probes):.1f})."
            )
    lines += [f"- Failed: {text}" for text in results.failed_passes]
    for key, error in results.failures.items():
        lines.append(f"- Not measured: {title(key)}: {error}")
    for model in results.models:
        agreement = results.agreement(model)
        if agreement:
            shares = ", ".join(f"{title(key)} {same}/{count}" for key, (same, count) in agreement.items())
            lines.append(
                f"- First tokens on {model} that equal PyTorch's in float (random weights: many are close): {shares}."
            )
    return "\n".join([*lines, "", *_earlier(results, machine)])


def _earlier(results: Results, machine: dict) -> list[str]:
    """Whether each peer is set up as well as it was before: its figure by its probe, against earlier bests."""
    earlier = json.loads((pathlib.Path(__file__).with_name("earlier.json")).read_text())
    lines = [
        "### Against earlier figures of the peers",
        "",
        f"{earlier['note']} A share below 0.8 has its reason beside it.",
        "",
        "| Model | Threads | Peer | Measurement | Then | Now | Share | Share by probe | |",
        "| :-- | --: | :-- | :-- | --: | --: | --: | --: | :-- |",
    ]
    for entry in earlier["figures"]:
        model, threads = entry["model"], entry["threads"]
        passes = results.passes.get((model, threads, entry["contender"]), {})
        for name, then in entry["tokens_per_second"].items():
            pairs = [(record[name], record["probe"]) for record in passes.values() if name in record]
            if not pairs:
                continue
            now = statistics.median(value / probe for value, probe in pairs)
            share = now * earlier["probe_bytes_per_second"][str(threads)] / then
            middle = statistics.median(value for value, _ in pairs)
            reason = "" if share >= 0.8 else _reason(entry["contender"], name, middle / then, machine)
            lines.append(
                f"| {model} | {threads} | {title(entry['contender'])} | {name.replace('_', ' ')} | {then} "
                f"| {middle:.0f} | {middle / then:.2f} | {share:.2f} | {reason} |"
            )
    return lines if len(lines) > 6 else []


def _reason(contender: str, name: str, share: float, machine: dict) -> str:
    """`share` is that of the figures alone."""
    computes = name.startswith("prefill") or name == "batch_8"
    if computes and share >= 0.8:
        return "bound by arithmetic, not by what the probe measures"
    if computes and "amx_int8" in machine["lacks"]:
        return "the earlier processor had AMX, this one has none"
    if share >= 0.8:
        return "as fast as then although this memory is faster: bound by something else"
    if contender.startswith("llama_cpp_") and "amx_int8" in machine["lacks"]:
        # ggml-cpu/amx/mmq.cpp: weights packed for tiles, which one row multiplies by VNNI instructions.
        return "with AMX it packs weights for it, and decodes by that layout too; without, it does not"
    return "unexplained: look at the peer's set-up"
