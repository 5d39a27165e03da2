"""The report: one table of rates, one of everything else, and a plot of the ratios as SVG."""

from __future__ import annotations

from html import escape

from bench.peers.readings import Measured
from bench.peers.works import WORKS, Work
from bench.serving import Reading

_OURS, _FLOOR = "ours", "floor"


def markdown(measured: Measured) -> str:
    parts = [
        _HEAD.format(
            machine=measured.machine, versions=_versions(measured), rounds=_rounds(measured)
        )
    ]
    parts += [_rates(measured), _reached(measured), _details(measured), _memory(measured)]
    if measured.said:
        parts.append("Not counted:\n\n" + "\n".join(f"- {text}" for text in measured.said))
    return "\n\n".join(parts) + "\n"


_HEAD = """# Beside other model servers

`python -m bench peers` on {machine}: {versions}.

wrk with 16 connections (unless said) on the same cores; all servers take turns of a few seconds
in each round, those that poll are held still between; {rounds}.
Same weights, same bodies (Open Inference Protocol, JSON or binary tensors; `/call` is our
MessagePack), every answer checked against numpy's before. Each peer runs in the best setting found
(`bench/peers/servers/`); "ours, one node" has one node with two BLAS threads, "ours, split" has the
layers' columns divided over two nodes. The floor is a bare aiohttp + uvloop handler with orjson
that computes in line; `request.json()` is what aiohttp itself offers; "in a worker" it sends its
inputs to a second process, as every server must that goes on while it computes. A server's
failures are counted with it; one that failed is never the best peer."""


def _rounds(measured: Measured) -> str:
    counts = {len(runs) for by_setting in measured.runs.values() for runs in by_setting.values()}
    least, most = min(counts), max(counts)
    if least == 1:
        return "one round, so that differences under 20 % mean little"
    if least == most:
        return f"medians of {least} readings"
    return f"medians of {least} readings, of {most} where memory is what binds"


def _versions(measured: Measured) -> str:
    return ", ".join(f"{name} {version}" for name, version in measured.versions.items())


def _names(measured: Measured) -> list[str]:
    """All settings, in the order in which they first appear."""
    found: dict[str, None] = {}
    for by_setting in measured.runs.values():
        found |= dict.fromkeys(sorted(by_setting, key=_order))
    return sorted(found, key=_order)


def _order(name: str) -> tuple[int, str]:
    first = {
        "floor": 0,
        "floor, request.json()": 1,
        "floor, in a worker": 2,
        "ours": 3,
        "ours, /call": 4,
        "ours, one node": 5,
        "ours, one node, /call": 6,
        "ours, split": 7,
    }
    return first.get(name, 8), name


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _rates(measured: Measured) -> str:
    names = _names(measured)
    rows = []
    for work in _works(measured):
        middle = measured.middle(work.name)
        rows.append([_title(work), *(_figure(work, middle.get(name)) for name in names)])
    kernel = measured.kernel_rate()
    tail = f"\n\nThe bare kernel at batch 32, no server: {kernel:.0f} rows/s." if kernel else ""
    return "Requests a second:\n\n" + _table(["work", *names], rows) + tail


def _works(measured: Measured) -> list[Work]:
    return [work for work in WORKS if work.name in measured.runs]


def _title(work: Work) -> str:
    return f"{work.name}, p50" if work.of == "p50" else work.name


def _figure(work: Work, reading: Reading | None) -> str:
    if reading is None:
        return "-"
    text = f"{reading.p50:.1f} ms" if work.of == "p50" else f"{reading.rate:,.0f}"
    return f"{text} ({reading.failed} failed)" if reading.failed else text


def _reached(measured: Measured) -> str:
    rows = []
    for work in _works(measured):
        middle = measured.middle(work.name)
        mine = {n: r for n, r in middle.items() if n.startswith(_OURS)}
        others = {n: r for n, r in middle.items() if not n.startswith((_OURS, _FLOOR))}
        best, peer = _best(work, mine), _best(work, others)
        if best is None or _FLOOR not in middle:
            continue
        base = middle[_FLOOR]
        row = [_title(work), _ratio(work, middle.get(_OURS), base)]
        row += [_ratio(work, mine[best], base) + f" ({best})", _goal(work)]
        row += ["-", "-"] if peer is None else [peer, _ratio(work, mine[best], others[peer])]
        rows.append(row)
    rows += _over_kernel(measured)
    head = ["work", "ours / floor", "best of ours / floor", "to reach"]
    head += ["best peer", "best of ours / best peer"]
    return "Ratios (of rates; of medians where p50 is said, less is better):\n\n" + _table(
        head, rows
    )


def _over_kernel(measured: Measured) -> list[list[str]]:
    kernel, large = measured.kernel_rate(), measured.middle("4x4096, 32 at once")
    mine = {name: r.rate for name, r in large.items() if name.startswith(_OURS)}
    if not kernel or not mine:
        return []
    best = max(mine, key=lambda name: mine[name])
    row = ["4x4096, 32 at once, over the kernel", f"{mine.get(_OURS, 0) / kernel:.2f}"]
    return [[*row, f"{mine[best] / kernel:.2f} ({best})", "≥ 0.85", "", ""]]


def _goal(work: Work) -> str:
    if work.least is None:
        return ""
    return f"{'≤' if work.of == 'p50' else '≥'} {work.least:.2f}"


def _best(work: Work, others: dict[str, Reading]) -> str | None:
    sound = {name: r for name, r in others.items() if not r.failed}
    if not sound:
        return None
    if work.of == "p50":
        return min(sound, key=lambda name: sound[name].p50)
    return max(sound, key=lambda name: sound[name].rate)


def _ratio(work: Work, ours: Reading | None, other: Reading) -> str:
    return "-" if ours is None else f"{_quotient(work, ours, other):.2f}"


def _quotient(work: Work, reading: Reading, other: Reading) -> float:
    if work.of == "p50":
        return reading.p50 / other.p50
    return reading.rate / other.rate


def _details(measured: Measured) -> str:
    rows = []
    for work in _works(measured):
        middle = measured.middle(work.name)
        for name in sorted(middle, key=_order):
            r = middle[name]
            spread = [run.rate for run in measured.runs[work.name][name]]
            rows.append(
                [
                    work.name,
                    name,
                    f"{r.rate:,.0f}",
                    f"{min(spread):,.0f} to {max(spread):,.0f}",
                    f"{r.p50:.2f}",
                    f"{r.p99:.2f}",
                    f"{r.cpu:,.0f}",
                    _ratio(work, r, middle[_FLOOR]) if _FLOOR in middle else "",
                ]
            )
    head = ["work", "server", "req/s", "least to most", "p50 ms", "p99 ms", "CPU us", "/ floor"]
    return "Everything; CPU is of all processes of a server, a request:\n\n" + _table(head, rows)


def _memory(measured: Measured) -> str:
    rows = [[name, f"{mb:.0f}"] for name, mb in measured.memory.items()]
    head = "Memory with all four models loaded, MB (PSS of all processes of a server; the weights "
    return head + "are 287 MB):\n\n" + _table(["server", "MB"], rows)


_BAR, _GAP, _LEFT, _WIDTH = 14, 4, 150, 560
_COLOURS = {"floor": "#999999", "ours": "#d1495b"}  # by the first word of the name


def plot(measured: Measured) -> str:
    """Bars of each setting's figure over the floor's, a panel a work; longer is better."""
    lines: list[str] = []
    y = 28
    for work in _works(measured):
        middle = measured.middle(work.name)
        if _FLOOR not in middle:
            continue
        lines.append(f'<text x="8" y="{y}" font-weight="bold">{escape(_title(work))}</text>')
        y += 8
        ratios = {n: _speed(work, r, middle[_FLOOR]) for n, r in middle.items()}
        scale = (_WIDTH - _LEFT - 60) / max(ratios.values())
        for name in sorted(ratios, key=lambda n: -ratios[n]):
            lines += _bar(name, ratios[name], ratios[name] * scale, y)
            y += _BAR + _GAP
        y += 24
    box = f'width="{_WIDTH}" height="{y}" viewBox="0 0 {_WIDTH} {y}"'
    font = 'font-family="sans-serif" font-size="11"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {box} {font}>'
    title = '<text x="8" y="12">speed over the floor\'s: bare aiohttp, in line</text>'
    back = '<rect width="100%" height="100%" fill="white"/>'
    return "\n".join([head, back, title, *lines, "</svg>"]) + "\n"


def _speed(work: Work, reading: Reading, base: Reading) -> float:
    ratio = _quotient(work, reading, base)
    return 1 / ratio if work.of == "p50" else ratio


def _bar(name: str, ratio: float, length: float, y: int) -> list[str]:
    colour = _COLOURS.get(name.partition(",")[0], "#3d6f99")
    middle = y + _BAR - 3
    return [
        f'<text x="{_LEFT - 6}" y="{middle}" text-anchor="end">{escape(name)}</text>',
        f'<rect x="{_LEFT}" y="{y}" width="{length:.1f}" height="{_BAR}" fill="{colour}"/>',
        f'<text x="{_LEFT + length + 5:.1f}" y="{middle}">{ratio:.2f}</text>',
    ]
