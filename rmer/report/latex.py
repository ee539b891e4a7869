"""Tables and sentences as LaTeX, for papers that use booktabs."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from rmer.report.readable import NO_VALUE, grouped

# Characters that LaTeX reads as commands, and those that its fonts lack.
ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
    "±": r"$\pm$",
    "Δ": r"$\Delta$",
    "ε": r"$\varepsilon$",
    "δ": r"$\delta$",
    "∞": r"$\infty$",
    "≤": r"$\le$",
    "→": r"$\rightarrow$",
}
_NUMBERS = re.compile(r"[0-9.±\- ]+|-?[0-9.]+e[+-]?[0-9]+")


def latex_table(table: pd.DataFrame, caption: str, label: str = "") -> str:
    r"""Return a text table as LaTeX for ``\usepackage{booktabs}``, numbers in math mode.

    A column title of the form ``group: title`` stands below a title of its group. Tables of more than seven
    columns are set smaller, to fit the width of the text (``\usepackage{graphicx}``).
    """
    tabular = [
        rf"\begin{{tabular}}{{l{'c' * (table.shape[1] - 1)}}}",
        r"\toprule",
        *_head([str(column) for column in table.columns]),
        r"\midrule",
        *(" & ".join(_cell(str(cell)) for cell in row) + r" \\" for row in table.itertuples(index=False)),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    if table.shape[1] > 7:
        tabular = [r"\resizebox{\textwidth}{!}{%", *tabular, "}"]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex_text(caption)}}}",
        *([rf"\label{{tab:{label}}}"] if label else []),
        *tabular,
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def latex_document(title: str, tables: Sequence[str], figures: Sequence[str]) -> str:
    """Return a document that shows ``methods.tex``, ``tables/<name>.tex`` and ``figures/<name>.pdf``."""
    lines = [
        r"\documentclass{article}",
        r"\usepackage[T1]{fontenc}",
        r"\usepackage[margin=2cm]{geometry}",
        r"\usepackage{booktabs,graphicx}",
        r"\begin{document}",
        rf"\title{{{latex_text(title)}}}",
        r"\date{}",
        r"\maketitle",
        r"\section*{Methods}",
        r"\input{methods}",
        *(rf"\input{{tables/{name}}}" for name in tables),
    ]
    for name in figures:
        lines += [
            r"\begin{figure}",
            r"\centering",
            rf"\includegraphics[width=\textwidth,height=.8\textheight,keepaspectratio]{{figures/{name}.pdf}}",
            rf"\caption{{{latex_text(name.replace('_', ' '))}}}",
            r"\end{figure}",
            r"\clearpage",
        ]
    return "\n".join([*lines, r"\end{document}"]) + "\n"


def latex_text(text: str) -> str:
    """Return plain text with everything escaped that LaTeX would read otherwise."""
    return "".join(ESCAPES.get(character, character) for character in text)


def _head(titles: list[str]) -> list[str]:
    """Return one line of titles, or two with rules below groups of neighbouring columns."""
    groups, below = grouped(titles)
    second = " & ".join(latex_text(title) for title in below) + r" \\"
    if not any(group for group, _ in groups):
        return [second]
    cells, rules, column = [], [], 1
    for group, width in groups:
        cells.append(rf"\multicolumn{{{width}}}{{c}}{{{latex_text(group)}}}" if group else "")
        if group:
            rules.append(rf"\cmidrule(lr){{{column}-{column + width - 1}}}")
        column += width
    return [" & ".join(cells) + r" \\", " ".join(rules), second]


def _cell(text: str) -> str:
    if text != NO_VALUE and _NUMBERS.fullmatch(text):
        return f"${text.replace('±', chr(92) + 'pm ').replace('  ', ' ')}$"
    return latex_text(text)
