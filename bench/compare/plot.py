"""A bar chart of the ratios to nginx as SVG, readable on light and on dark pages."""

from html import escape

import summary

WIDTH, LABEL_WIDTH, VALUE_WIDTH = 760, 150, 60
BAR_HEIGHT, BAR_GAP, PANEL_GAP, TITLE_HEIGHT = 14, 6, 26, 22
# Bars beyond this ratio are cut, and say so: one slow proxy must not hide the differences.
RATIO_SHOWN_MAX = 2.5
KINDS = {
    "": "",
    "each": ", another object each time",
    "close": ", a connection for each request",
    "resume": ", a connection with a resumed session for each request",
}
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 } .small { font-size: 11px } .ours { fill: #0969da } .peer { fill: #8c959f }
.whisker { stroke: #24292f; stroke-width: 1 } .one { stroke: #57606a; stroke-dasharray: 3 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .ours { fill: #58a6ff } .peer { fill: #6e7681 }
  .whisker { stroke: #e6edf3 } .one { stroke: #8b949e }
}
"""


def describe(load):
    size, connections = load.split(":")
    size, _, kind = size.partition("-")
    return f"{size[:-1]} {size[-1].upper()}iB{KINDS[kind]}, {connections} connections"


def _bar(row, top, x):
    low, middle, high = row.ratio
    middle_y = top + BAR_HEIGHT / 2
    text_y = top + BAR_HEIGHT - 3
    end = x(min(middle, RATIO_SHOWN_MAX))
    kind = "ours" if row.proxy.startswith("yatagarasu") else "peer"
    cut = middle > RATIO_SHOWN_MAX
    yield f'<text x="{LABEL_WIDTH - 8}" y="{text_y}" text-anchor="end">{escape(row.proxy)}</text>'
    yield f'<rect class="{kind}" x="{LABEL_WIDTH}" y="{top}" width="{end - LABEL_WIDTH:.1f}" height="{BAR_HEIGHT}" rx="2"/>'
    if not cut:
        yield (f'<line class="whisker" x1="{x(low):.1f}" x2="{x(min(high, RATIO_SHOWN_MAX)):.1f}" '
               f'y1="{middle_y}" y2="{middle_y}"/>')
    value = f"{middle:.2f}" + (" (cut)" if cut else "")
    at = max(end, x(min(high, RATIO_SHOWN_MAX))) + 6
    yield f'<text class="small" x="{at:.1f}" y="{text_y}">{value}</text>'


def svg(results):
    """The chart: a panel for each load, a bar for each proxy, whiskers from quartile to quartile."""
    def x(ratio):
        return LABEL_WIDTH + ratio / RATIO_SHOWN_MAX * (WIDTH - LABEL_WIDTH - VALUE_WIDTH)

    parts, top = [], TITLE_HEIGHT + 14
    for load, samples in results["loads"].items():
        rows = list(summary.rows(samples))
        parts.append(f'<text class="title" x="0" y="{top}">{escape(describe(load))}</text>')
        top += 8
        bottom = top + len(rows) * (BAR_HEIGHT + BAR_GAP)
        for number, row in enumerate(rows):
            parts += _bar(row, top + number * (BAR_HEIGHT + BAR_GAP), x)
        parts.append(f'<line class="one" x1="{x(1):.1f}" x2="{x(1):.1f}" y1="{top - 4}" y2="{bottom}"/>')
        top = bottom + PANEL_GAP
    title = "CPU time of the proxy per response, nginx = 1 (less is better)"
    footer = f'{results["when"][:10]}, {results["machine"]["processor"]}, Linux {results["machine"]["kernel"]}'
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top + 4}" width="{WIDTH}" height="{top + 4}" '
        f'role="img" aria-label="{escape(title)}">',
        f"<style>{STYLE}</style>",
        f'<text class="title" x="0" y="14">{escape(title)}</text>',
        *parts,
        f'<text class="small" x="0" y="{top - 4}">{escape(footer)}</text>',
        "</svg>",
        "",
    ])
