"""A table as LaTeX, set with booktabs; what is longer than a page goes on on the next."""

from mnemoscope.reporting.numbers import printable
from mnemoscope.reporting.tables import Cell, Table

MOST_ROWS = 40
"""A table of more rows is a longtable."""

_GREEK = {
    "α": "alpha",
    "β": "beta",
    "γ": "gamma",
    "δ": "delta",
    "ε": "varepsilon",
    "ζ": "zeta",
    "η": "eta",
    "θ": "theta",
    "κ": "kappa",
    "λ": "lambda",
    "μ": "mu",
    "ν": "nu",
    "ξ": "xi",
    "π": "pi",
    "ρ": "rho",
    "σ": "sigma",
    "τ": "tau",
    "φ": "varphi",
    "χ": "chi",
    "ψ": "psi",
    "ω": "omega",
    "Γ": "Gamma",
    "Δ": "Delta",
    "Θ": "Theta",
    "Λ": "Lambda",
    "Ξ": "Xi",
    "Π": "Pi",
    "Σ": "Sigma",
    "Φ": "Phi",
    "Ψ": "Psi",
    "Ω": "Omega",
}

_CHARACTERS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_"},
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "“": "``",
    "”": "''",
    "’": "'",
    "°": r"\ensuremath{^\circ}",
    "±": r"\ensuremath{\pm}",
    "×": r"\ensuremath{\times}",
    "·": r"\ensuremath{\cdot}",
    "−": r"\ensuremath{-}",
    "≤": r"\ensuremath{\le}",
    "≥": r"\ensuremath{\ge}",
    "≠": r"\ensuremath{\ne}",
    "≈": r"\ensuremath{\approx}",
    "∞": r"\ensuremath{\infty}",
    "√": r"\ensuremath{\surd}",
    "→": r"\ensuremath{\to}",
    "ℓ": r"\ensuremath{\ell}",
    "²": r"\ensuremath{^2}",
    "³": r"\ensuremath{^3}",
    **{character: rf"\ensuremath{{\{name}}}" for character, name in _GREEK.items()},
}


def latex_of(table: Table) -> str:
    """The table as a `table` float, or as a `longtable`; notes stand behind their values."""
    n, rows = len(table.columns), sum(len(group.rows) for group in table.groups)
    body = [line for group in table.groups for line in _group(group.heading, group.rows, n)]
    head = " & ".join(f"{escaped(name)}" for name in table.columns) + r" \\"
    caption, columns = escaped(table.caption), "l" * n
    if rows > MOST_ROWS:
        begin = [rf"\begin{{longtable}}{{{columns}}}", rf"\caption{{{caption}}}\\", r"\toprule", head, r"\midrule"]
        lines = [r"% needs \usepackage{booktabs,longtable}", *begin, r"\endhead", *_without_rule(body)]
        return "\n".join([*lines, r"\bottomrule", r"\end{longtable}", ""])
    begin = [r"\begin{table}", r"\centering", rf"\caption{{{caption}}}", rf"\begin{{tabular}}{{{columns}}}"]
    lines = [r"% needs \usepackage{booktabs}", *begin, r"\toprule", head, r"\midrule", *_without_rule(body)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def escaped(text: str) -> str:
    """Text as LaTeX prints it: nothing in it is a command; a `[` at the start of a row would be one."""
    plain = "".join(_CHARACTERS.get(character, character) for character in printable(" ".join(text.split())))
    return f"{{{plain}}}" if plain.startswith(("[", "*")) else plain


def _group(heading: str, rows: list[list[Cell]], n: int) -> list[str]:
    titled = [r"\midrule", rf"\multicolumn{{{n}}}{{l}}{{\textit{{{escaped(heading)}}}}} \\"] if heading else []
    return [*titled, *(" & ".join(map(_cell, row)) + r" \\" for row in rows)]


def _without_rule(body: list[str]) -> list[str]:
    return body[1:] if body[:1] == [r"\midrule"] else body


def _cell(cell: Cell) -> str:
    note = rf" {{\footnotesize {escaped(cell.note)}}}" if cell.note else ""
    return escaped(cell.verdict or cell.text) + note
