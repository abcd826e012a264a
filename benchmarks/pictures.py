"""Small SVG pictures of benchmark results: curves of several runs, and differences with intervals. No dependency."""

from collections.abc import Mapping, Sequence
from html import escape

COLOURS = ("#3056d3", "#d9730d", "#6b7686", "#0b8f6a", "#b3287f", "#7546e8", "#0a87a3", "#c43328")
STYLE = (
    "<style>svg{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;font-size:12.5px}"
    ".card{fill:#fff;stroke:#d5dae3}.t{fill:#182230;font-size:16px;font-weight:600}.n{fill:#182230}.s{fill:#5d6b82}"
    ".g{stroke:#e6e9ef}.a{stroke:#9aa5b8}.l{fill:none;stroke-linejoin:round}"
    "@media(prefers-color-scheme:dark){.card{fill:#0d1117;stroke:#2b3340}.t,.n{fill:#e6eaf2}.s{fill:#97a3b8}"
    ".g{stroke:#222a36}.a{stroke:#55617a}}</style>"
)
Points = Sequence[tuple[float, float]]


def curves(title: str, subtitle: str, series: Mapping[str, Sequence[Points]], x_name: str, top: float = 1.0) -> str:
    """Return lines over one axis: per name a strong line (the mean of its runs) and thin ones (the runs).

    Args:
        title: Heading.
        subtitle: Second line.
        series: Per name the runs, each a list of (x, y) with 0 <= y <= top; runs of a name have the same x.
        x_name: What x counts.
        top: Largest y shown.
    """
    most = max(x for runs in series.values() for run in runs for x, _ in run) or 1.0
    left, right, low, high = 58.0, 620.0, 346.0, 74.0
    parts = _frame(title, subtitle, 760, 400)

    def at(x: float, y: float) -> str:
        return f"{left + x / most * (right - left):.1f},{low - y / top * (low - high):.1f}"

    for tick in range(5):
        y = low - tick / 4 * (low - high)
        parts += [f'<path class="{"g" if tick else "a"}" d="M{left},{y:.1f}H{right}"/>', _text(left - 9, y + 4, f"{top * tick / 4:g}", "s", "end")]
        parts.append(_text(left + tick / 4 * (right - left), low + 19, f"{most * tick / 4:,.4g}", "s", "middle"))
    parts.append(_text((left + right) / 2, low + 39, x_name, "s", "middle"))
    ends = []
    for i, (name, runs) in enumerate(series.items()):
        colour, mean = COLOURS[i % len(COLOURS)], mean_of(runs)
        for run in runs:
            parts.append(f'<path class="l" stroke="{colour}" stroke-width="1.3" opacity=".5" d="M{"L".join(at(*p) for p in run)}"/>')
        parts.append(f'<path class="l" stroke="{colour}" stroke-width="3" d="M{"L".join(at(*p) for p in mean)}"><title>{escape(name)}</title></path>')
        ends.append((low - mean[-1][1] / top * (low - high), name, colour, mean[-1][1]))
    below = high - 20
    for y, name, colour, value in sorted(ends):
        below = max(y, below + 17)
        parts += [f'<path stroke="{colour}" stroke-width="3" d="M{right + 10},{below:.1f}h10"/>', _text(right + 25, below + 4, f"{name} {value:.2f}", "n")]
    return "\n".join([*parts, "</svg>"]) + "\n"


def mean_of(runs: Sequence[Points]) -> list[tuple[float, float]]:
    """Return the mean of runs, point by point."""
    return [tuple(sum(axis) / len(points) for axis in zip(*points, strict=True)) for points in zip(*runs, strict=True)]  # type: ignore


def intervals(title: str, subtitle: str, rows: Sequence[tuple[str, float, float, float, Sequence[float]]], x_name: str) -> str:
    """Return one line a row: a dot at the mean, its interval, and small dots of the single seeds.

    Args:
        title: Heading.
        subtitle: Second line.
        rows: Name, mean, low, high, seeds.
        x_name: What is compared.
    """
    reach = max(0.1, *(abs(v) for _, m, lo, hi, seeds in rows for v in (m, lo, hi, *seeds)))
    left, right, height = 290.0, 730.0, 110 + 24 * len(rows)
    parts = _frame(title, subtitle, 760, height)

    def x(value: float) -> float:
        return (left + right) / 2 + value / reach * (right - left) / 2

    for share in (-1.0, -0.5, 0.0, 0.5, 1.0):
        at = x(share * reach)
        parts += [f'<path class="{"g" if share else "a"}" d="M{at:.1f},70V{height - 44}"/>', _text(at, height - 26, f"{share * reach:+.2f}", "s", "middle")]
    parts.append(_text((left + right) / 2, height - 9, x_name, "s", "middle"))
    for i, (name, mean, low, high, seeds) in enumerate(rows):
        y = 84.0 + 24 * i
        colour = COLOURS[3] if low > 0 else COLOURS[7] if high < 0 else COLOURS[2]
        parts += [_text(left - 14, y + 4, name, "n", "end"), f'<path stroke="{colour}" stroke-width="2.4" d="M{x(low):.1f},{y}H{x(high):.1f}"/>']
        parts += [f'<circle cx="{x(v):.1f}" cy="{y}" r="2.4" fill="{colour}" opacity=".5"/>' for v in seeds]
        parts.append(f'<circle cx="{x(mean):.1f}" cy="{y}" r="5" fill="{colour}"><title>{escape(name)}: {mean:+.3f} [{low:+.3f}, {high:+.3f}]</title></circle>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _frame(title: str, subtitle: str, width: int, height: int) -> list[str]:
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img"><title>{escape(title)}</title>{STYLE}',
        f'<rect class="card" x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="10"/>',
        _text(24, 33, title, "t"),
        _text(24, 53, subtitle, "s"),
    ]


def _text(x: float, y: float, text: str, style: str, anchor: str = "start") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
