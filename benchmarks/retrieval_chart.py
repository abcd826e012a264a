"""The picture of `benchmarks/retrieval.py`: CPU milliseconds per query as bars on a logarithmic scale."""

import math
from typing import Any

WIDTH, BAR, GAP, LEFT, RIGHT = 760, 15, 10, 190, 80
COLOURS = {"easy": "#4c78a8", "hard": "#e45756", "natural": "#54a24b"}


def chart(corpora: dict[str, list[dict[str, Any]]]) -> str:
    """Return an SVG: a panel per corpus, a group of bars per engine, a bar per kind of query."""
    values = [k["cpu_ms"] for rows in corpora.values() for row in rows for k in row["kinds"].values()]
    low, high = 10 ** math.floor(math.log10(min(values))), 10 ** math.ceil(math.log10(max(values)))
    scale = (WIDTH - LEFT - RIGHT) / math.log10(high / low)
    parts, y = [], 34
    for name, rows in corpora.items():
        y += 16
        parts.append(f'<text x="10" y="{y}" font-weight="bold">{name}</text>')
        y += 12
        for row in rows:
            top = y
            for kind, numbers in row["kinds"].items():
                length = math.log10(numbers["cpu_ms"] / low) * scale
                parts.append(f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{COLOURS[kind]}"/>')
                parts.append(f'<text x="{LEFT + length + 4:.1f}" y="{y + 12}" font-size="11">{numbers["cpu_ms"]:.3f}</text>')
                y += BAR + 1
            parts.append(f'<text x="{LEFT - 8}" y="{(top + y) / 2 + 4:.0f}" text-anchor="end">{row["engine"]}</text>')
            y += GAP
    legend = "".join(
        f'<rect x="{LEFT + 110 * i}" y="14" width="12" height="12" fill="{colour}"/><text x="{LEFT + 16 + 110 * i}" y="24">{kind}</text>'
        for i, (kind, colour) in enumerate(COLOURS.items())
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 10}" font-family="sans-serif" font-size="13">'
    title = '<text x="10" y="24">CPU ms a query (log)</text>'
    return head + f'<rect width="100%" height="100%" fill="white"/>{title}{legend}{"".join(parts)}</svg>\n'
