"""A plain line plot as SVG, one panel for each series, so that no scale hides another."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_WIDTH, _HEIGHT = 360, 240  # of a panel, in pixels
_LEFT, _TOP, _RIGHT, _BOTTOM = 58, 34, 16, 40


@dataclass(frozen=True)
class Series:
    title: str
    values: Sequence[float]
    colour: str


def write_plot(path: Path, *, x: Sequence[float], x_title: str, series: Sequence[Series]) -> None:
    panels = "".join(
        f'<g transform="translate({number * _WIDTH},0)">{_panel(x, x_title, one)}</g>'
        for number, one in enumerate(series)
    )
    width = _WIDTH * len(series)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{_HEIGHT}" viewBox="0 0 {width} {_HEIGHT}" '
        f'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="#ffffff"/>{panels}</svg>\n'
    )


def _panel(x: Sequence[float], x_title: str, series: Series) -> str:
    right, top = max(x), max(series.values) * 1.1
    bottom_line = _HEIGHT - _BOTTOM

    def at(value_x: float, value_y: float) -> tuple[float, float]:
        return (
            _LEFT + value_x / right * (_WIDTH - _LEFT - _RIGHT),
            bottom_line - value_y / top * (bottom_line - _TOP),
        )

    points = [at(value_x, value_y) for value_x, value_y in zip(x, series.values, strict=True)]
    parts = [f'<text x="{_LEFT}" y="20" font-size="13">{series.title}</text>']
    for step in range(5):
        level = top * step / 4
        _, y = at(0, level)
        parts.append(f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}" stroke="#dddddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{level:,.0f}</text>')
        label_x, _ = at(right * step / 4, 0)
        parts.append(
            f'<text x="{label_x:.1f}" y="{bottom_line + 16}" text-anchor="middle">{right * step / 4:,.0f}</text>'
        )
    parts.append(f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 6}" text-anchor="middle">{x_title}</text>')
    line = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
    parts.append(f'<polyline points="{line}" fill="none" stroke="{series.colour}" stroke-width="2"/>')
    parts += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="{series.colour}"/>' for px, py in points]
    return "".join(parts)
