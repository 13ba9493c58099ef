"""Small pieces of HTML. Everything that is not `Html` already is escaped, so no user's text can become markup."""

import html
from collections.abc import Iterable, Sequence
from typing import NewType

Html = NewType("Html", str)
"""Markup that is safe to put into a page."""

STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --panel: #f6f7f9; --ink: #1c2330; --soft: #5b6472;
  --line: #d5dae1; --accent: #0b6bcb; --bar: #9fb3c8; --good: #2a8a4a; --late: #d99a2b; --bad: #c2473d;
  --drop: #8a93a0; --s0: #0b6bcb; --s1: #c2571a; --s2: #2a8a4a; --s3: #a3338b; --s4: #7a6a00; --s5: #0f8b8d;
  --s6: #b3261e; --s7: #5a4fcf; --s8: #7b5a3c; --s9: #5b6472; }
@media (prefers-color-scheme: dark) { :root { --page: #14181f; --panel: #1c222c; --ink: #e7ebf1; --soft: #9aa5b4;
  --line: #39424f; --accent: #5aa9f2; --bar: #52667c; --good: #4fb873; --late: #e0ad52; --bad: #e2756b;
  --drop: #788494; --s0: #5aa9f2; --s1: #ee9054; --s2: #5cc47f; --s3: #dd82c9; --s4: #cfb93c; --s5: #4cc3c5;
  --s6: #f0837b; --s7: #a59cf5; --s8: #c79d78; --s9: #9aa5b4; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 72rem; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .25rem; }
h2 { font-size: 1.3rem; margin: 2.75rem 0 .25rem; padding-top: 1.25rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.02rem; margin: 1.75rem 0 .4rem; }
p { margin: .35rem 0; max-width: 62rem; }
.soft { color: var(--soft); }
.finding { font-size: 1.05rem; padding: .7rem .95rem; margin: .9rem 0; background: var(--panel);
  border-left: 4px solid var(--accent); border-radius: 0 6px 6px 0; }
.wide { overflow-x: auto; }
figure { margin: 1.25rem 0 0; }
figcaption { font-weight: 600; }
figcaption span { display: block; font-weight: 400; font-size: .87rem; color: var(--soft); }
svg { display: block; width: 100%; min-width: 44rem; height: auto; }
svg text { fill: var(--ink); font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
svg .soft { fill: var(--soft); }
svg .strong { font-weight: 600; }
table { border-collapse: collapse; width: 100%; font-size: .87rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .8rem 0 .3rem; }
th, td { text-align: right; padding: .28rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
thead th { color: var(--soft); font-weight: 500; vertical-align: bottom; white-space: normal; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
tbody th { font-weight: 400; }
tr.best th, tr.best td { font-weight: 650; background: var(--panel); }
td.better { color: var(--good); } td.worse { color: var(--bad); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; }
dt { font-weight: 600; } dd { margin: 0; }
"""


def text(value: str) -> Html:
    """Return text as markup."""
    return Html(html.escape(value))


def join(parts: Iterable[Html]) -> Html:
    """Return markup one after the other."""
    return Html("\n".join(parts))


def element(tag: str, content: Html | str = "", **attributes: str | float) -> Html:
    """Return an element; a trailing underscore of an attribute's name is dropped and others become hyphens.

    Args:
        tag: Its name.
        content: Markup, put in as it is.
        attributes: Escaped.
    """
    rendered = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(_attribute(value))}"'
        for name, value in attributes.items()
    )
    return Html(f"<{tag}{rendered}>{content}</{tag}>")


def _attribute(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")


def paragraph(value: str, class_: str = "") -> Html:
    """Return a paragraph of text."""
    return element("p", text(value), class_=class_) if class_ else element("p", text(value))


def table(
    caption: str,
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    best: str | None = None,
    classes: Sequence[Sequence[str]] | None = None,
) -> Html:
    """Return a table whose first column names the rows.

    Args:
        caption: What it shows.
        headings: One for each column.
        rows: Text.
        best: First cell of the row to highlight.
        classes: A CSS class for each cell, "" = none.
    """
    body = []
    for index, row in enumerate(rows):
        of_row = classes[index] if classes is not None else [""] * len(row)
        values = [element("th", text(row[0]), scope="row")]
        values += [element("td", text(value), class_=name) for value, name in zip(row[1:], of_row[1:], strict=True)]
        body.append(element("tr", join(values), class_="best" if row[0] == best else ""))
    head = element("tr", join(element("th", text(heading), scope="col") for heading in headings))
    content = (element("caption", text(caption)), element("thead", head), element("tbody", join(body)))
    return element("div", element("table", join(content)), class_="wide")


def figure(caption: str, explanation: str, drawing: Html) -> Html:
    """Return a drawing with its caption and how to read it."""
    label = element("figcaption", Html(text(caption) + element("span", text(explanation))))
    return element("figure", join((label, element("div", drawing, class_="wide"))))


def definitions(terms: Iterable[tuple[str, str]]) -> Html:
    """Return a list of terms and what they mean."""
    return element("dl", join(Html(element("dt", text(term)) + element("dd", text(mean))) for term, mean in terms))


def page(title: str, body: Iterable[Html]) -> str:
    """Return a whole document that needs nothing from elsewhere."""
    head = join(
        (
            Html('<meta charset="utf-8">'),
            Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            element("title", text(title)),
            element("style", STYLE),
        )
    )
    content = element("head", head) + element("body", element("main", join(body)))
    return f"<!DOCTYPE html>\n{element('html', content, lang='en')}\n"
