"""Bars for each contender of a model, as an SVG that stands on its own white ground."""

from matrix import CONTENDERS, ENGINES
from results import MEASURES, Results

_COLORS = {"float": "#6b7280", "int8": "#1d4ed8", "int4": "#c2410c", None: "#f59e0b"}
_PANELS = ["prefill_512", "decode", "batch_8", "peak"]
_WIDTH, _LABEL, _ROW, _TOP = 560.0, 150.0, 19.0, 48.0


def draw(results: Results, model: str, threads: int) -> str:
    contenders = [
        contender
        for group in ("float", "int8", "int4", None)
        for contender in CONTENDERS
        # Lathe at lower instruction sets has a table of its own.
        if contender.group == group and not contender.isa and (model, threads, contender.key) in results.passes
    ]
    height = _TOP + _ROW * len(contenders) + 30
    panels = []
    for place, name in enumerate(_PANELS):
        measure = next(measure for measure in MEASURES if measure.name == name)
        left, top = _WIDTH * (place % 2), height * (place // 2)
        content = _panel(results, model, threads, measure, contenders)
        panels.append(f'<g transform="translate({left:.0f} {top:.0f})">\n{content}\n</g>')
    full = 2 * height + 40
    legend = _legend(2 * height + 20, {contender.group for contender in contenders})
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * _WIDTH:.0f} {full:.0f}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="12" fill="#111827">\n'
        '<rect width="100%" height="100%" fill="#ffffff"/>\n' + "\n".join([*panels, legend]) + "\n</svg>\n"
    )


def _panel(results: Results, model: str, threads: int, measure, contenders: list) -> str:
    data = []
    for contender in contenders:
        values = sorted(results.values(model, threads, contender, measure).values())
        data.append((contender, results.median(model, threads, contender, measure), values))
    longest = max((values[-1] for _, _, values in data if values), default=1.0)
    scale = (_WIDTH - _LABEL - 70) / longest
    better = "more" if measure.more_is_better else "less"
    count = f"{threads} thread{'' if threads == 1 else 's'}"
    heading = f"{measure.title}, {measure.unit} ({better} is better)"
    parts = [
        f'<text x="16" y="22" font-size="14" font-weight="bold">{_escaped(heading)}</text>',
        f'<text x="16" y="38" fill="#4b5563">{model}, {count}</text>',
        f'<line x1="{_LABEL}" y1="{_TOP}" x2="{_LABEL}" y2="{_TOP + _ROW * len(data):.0f}" stroke="#374151"/>',
    ]
    for index, (contender, median, values) in enumerate(data):
        middle = _TOP + _ROW * (index + 0.5)
        is_lathe = contender.engine == "lathe"
        weight = ' font-weight="bold"' if is_lathe else ""
        place = f'x="{_LABEL - 6:.0f}" y="{middle + 4:.1f}" text-anchor="end"'
        parts.append(f"<text {place}{weight}>{_escaped(contender.title)}</text>")
        if median is None:
            continue
        color = _COLORS[contender.group]
        fill = f'fill="{color}"' if is_lathe else f'fill="{color}" fill-opacity="0.4"'
        tip = f"{ENGINES[contender.engine]}, {contender.precision}: {median:.1f}, {values[0]:.1f} to {values[-1]:.1f}"
        parts += [
            f'<rect x="{_LABEL}" y="{middle - 6:.1f}" width="{median * scale:.1f}" height="12" {fill}>'
            f"<title>{_escaped(tip)}</title></rect>",
            f'<line x1="{_LABEL + values[0] * scale:.1f}" y1="{middle:.1f}" x2="{_LABEL + values[-1] * scale:.1f}" '
            f'y2="{middle:.1f}" stroke="#111827" stroke-width="1.5"/>',
            f'<text x="{_LABEL + values[-1] * scale + 6:.1f}" y="{middle + 4:.1f}"{weight}>{_number(median)}</text>',
        ]
    return "\n".join(parts)


def _legend(y: float, groups: set) -> str:
    parts, x = [], 16.0
    names = {"float": "float32 or float16", "int8": "int8", "int4": "int4", None: "int4, half of the weights zeros"}
    for group, name in names.items():
        if group not in groups:
            continue
        parts.append(f'<rect x="{x:.0f}" y="{y - 10:.0f}" width="12" height="12" fill="{_COLORS[group]}"/>')
        parts.append(f'<text x="{x + 18:.0f}" y="{y:.0f}">{name}</text>')
        x += 44 + 6.4 * len(name)
    parts.append(f'<text x="{x + 16:.0f}" y="{y:.0f}">Full colour: Lathe. Line: least to most of the rounds.</text>')
    return "\n".join(parts)


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
