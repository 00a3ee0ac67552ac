"""One HTML page that needs nothing else: figures inline as SVG, no script, no network. Never imports torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape as _escape

from vitlr.text import harmless

__all__ = ["Part", "Table", "html_page"]

# What a figure's colours turn into on a dark page: paper and ink change places, greys and dark hues get lighter, and
# every other hue stays, so that a method keeps its colour. Colours that stand for values (heat maps) are not here.
_DARK = {
    "#ffffff": "#1a1f26",  # paper, and the seams between areas
    "#000000": "#e6e9ed",  # ink
    "#262626": "#f0f2f4",
    "#b0b0b0": "#59636e",  # grid
    "#cccccc": "#3a424c",
    "#d9d9d9": "#515b66",  # heat maps: nothing is known
    "#e0e0e0": "#515b66",
    "#4c4c4c": "#b7c0ca",  # small print and levels to compare with
    "#595959": "#a3adb8",
    "#737373": "#8b96a2",
    "#0072b2": "#3b9fe0",
    "#8a7a00": "#c2af1c",
    "#332288": "#6f5fd0",
    "#117733": "#1f7a40",
    "#882255": "#982c62",
}

_STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --soft: #59636e; --page: #ffffff; --line: #d1d9e0;
  --card: #ffffff; --code: #f3f5f7; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e9ed; --soft: #a3adb8; --page: #14181d;
  --line: #3a424c; --card: #1a1f26; --code: #1e242b; --bad: #ff8a80; DARK } }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1.25rem 4rem; background: var(--page);
  color: var(--text); font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: .5rem 0; } h2 { font-size: 1.25rem; margin: 2.6rem 0 .4rem; }
p, li { max-width: 48rem; } .soft { color: var(--soft); } .bad { color: var(--bad); font-weight: 600; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; margin: .8rem 0; }
th, td { border-bottom: 1px solid var(--line); padding: .32rem .55rem; text-align: right; white-space: nowrap; }
th { vertical-align: bottom; } th.up { white-space: normal; max-width: 7rem; }
td:first-child, th:first-child { text-align: left; white-space: normal; min-width: 7.5rem; }
td:nth-child(2) { white-space: normal; }
td { font-variant-numeric: tabular-nums; }
figure { margin: .8rem 0 1.4rem; }
/* As wide as the page, but letters grow little; on a narrow screen they stay legible and the figure is scrolled. */
figure svg { display: block; height: auto; width: 100%; min-width: min(40rem, var(--own));
  max-width: calc(1.25 * var(--own)); background: var(--card); border-radius: 6px;
  fill: var(--text); } /* letters that the figure leaves to the reader */
figcaption { color: var(--soft); font-size: .9rem; margin-top: .35rem; max-width: 48rem; }
pre { background: var(--code); padding: .8rem 1rem; border-radius: 6px; overflow-x: auto;
  font: .82rem/1.5 ui-monospace, monospace; }
summary { cursor: pointer; margin: .5rem 0; } nav a { margin-right: 1rem; } a { color: inherit; }
""".replace("DARK", " ".join(f"--fig-{light[1:]}: {dark};" for light, dark in _DARK.items()))


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of text below a line of headings."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A section of the page: words, then tables, figures with captions, and texts that fold away.

    Attributes:
        figures: (SVG, caption) pairs.
        folded: (summary, preformatted text) pairs.
        warnings: sentences that must be seen.
    """

    title: str
    text: str = ""
    warnings: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[tuple[bytes, str], ...] = ()
    folded: tuple[tuple[str, str], ...] = ()


def escape(text: str) -> str:
    """A text as HTML, in one line that shows what it holds."""
    return _escape(harmless(text))


def html_page(title: str, note: str, parts: Sequence[Part]) -> str:
    """The page; all texts are plain and are escaped here."""
    links = "".join(f'<a href="#{_slug(part.title)}">{escape(part.title)}</a>' for part in parts)
    body = "\n".join(_part(part, number) for number, part in enumerate(parts))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        # Nothing is ever fetched, whatever a name in a configuration says.
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        f'<h1>{escape(title)}</h1>\n<p class="soft">{escape(note)}</p>\n<nav>{links}</nav>\n{body}\n</body></html>\n'
    )


def _part(part: Part, number: int) -> str:
    pieces = [f'<h2 id="{_slug(part.title)}">{escape(part.title)}</h2>']
    if part.text:
        pieces.append(f"<p>{escape(part.text)}</p>")
    pieces += [f'<p class="bad">{escape(warning)}</p>' for warning in part.warnings]
    pieces += [_table(table) for table in part.tables]
    for index, (svg, caption) in enumerate(part.figures):
        pieces.append(
            f'<figure><div class="wide">{_inline(svg, f"f{number}-{index}-", caption)}</div>'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )
    for summary, text in part.folded:
        lines = "\n".join(map(escape, text.split("\n")))
        pieces.append(f"<details><summary>{escape(summary)}</summary><pre>{lines}</pre></details>")
    return "\n".join(pieces)


def _table(table: Table) -> str:
    head = "".join(f'<th class="up">{escape(heading)}</th>' for heading in table.headings)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _inline(svg: bytes, prefix: str, caption: str) -> str:
    """The ``<svg>`` element alone, with a label for screen readers, ids that are unique on the page, its own width for
    the page's style, and colours that a dark page can change."""
    text = svg.decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r'<svg ([^>]*)\bwidth="([\d.]+pt)"', r'<svg \1style="--own: \2" width="\2"', text, count=1)
    text = f'<svg role="img" aria-label="{escape(caption)}" {text[5:]}'
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"(?:(?<=fill: )|(?<=stroke: ))#[0-9a-f]{6}", _on_both, text)
    text = re.sub(r'(\bid=")', rf"\1{prefix}", text)
    text = re.sub(r'(href="#)', rf"\1{prefix}", text)
    return re.sub(r"(url\(#)", rf"\1{prefix}", text)


def _on_both(match: re.Match[str]) -> str:
    """A colour as it is on a light page, by a name that a dark page gives another."""
    return f"var(--fig-{match[0][1:]}, {match[0]})" if match[0] in _DARK else match[0]


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
