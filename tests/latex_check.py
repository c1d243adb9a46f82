"""A tiny reader of LaTeX: refuses what `pdflatex` would refuse in a table, and gives its cells."""

from __future__ import annotations

import re

KNOWN = {
    *("begin", "end", "centering", "caption", "label", "toprule", "midrule", "bottomrule"),
    *("textbf", "underline", "textit", "emph", "scriptsize", "small", "pm", "geq", "multicolumn"),
    *("textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater", "textbar"),
    *("textsuperscript", "textdagger", "textdaggerdbl", "dots", "cmidrule", "usepackage"),
}
"""Commands of the kernel and of booktabs."""


def tables(text: str) -> list[list[list[str]]]:
    """The rows of each `tabular`, cell by cell; AssertionError for what does not compile."""
    body = "\n".join(re.sub(r"(?<!\\)%.*", "", line) for line in text.splitlines())
    _environments(body)
    found = []
    pattern = r"\\begin\{tabular\}\{([lrc]+)\}(.*?)\\end\{tabular\}"
    for columns, inner in re.findall(pattern, body, flags=re.S):
        rows = []
        inner = re.sub(r"\\(?:toprule|midrule|bottomrule)\b|\\cmidrule\(lr\)\{[\d-]+\}", "", inner)
        *parts, rest = re.split(r"\\\\", inner)
        assert not rest.strip(), rest
        for part in parts:
            # \\ takes what follows in brackets, or a star, as its option.
            assert not part.lstrip().startswith(("[", "*")), part
            cells = [cell.strip() for cell in re.split(r"(?<!\\)&", part)]
            spans = [re.match(r"\\multicolumn\{(\d+)\}", cell) for cell in cells]
            width = sum(int(span[1]) if span else 1 for span in spans)
            assert width == len(columns), (columns, cells)
            for cell in cells:
                _balanced(cell)
            rows.append(cells)
        found.append(rows)
    outside = re.sub(pattern, "", body, flags=re.S)
    assert not re.search(r"(?<!\\)&", outside), "& outside of a table"
    _balanced(body)
    _special(body)
    return found


def _environments(text: str) -> None:
    opened: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened, name
            assert opened.pop() == name
    assert not opened, opened


def _balanced(text: str) -> None:
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", text.replace(r"\\", "")):
        depth += 1 if brace == "{" else -1
        assert depth >= 0, text
    assert not depth, text


def _special(text: str) -> None:
    """Nothing outside of maths that TeX would read as more than a character."""
    maths = re.split(r"(?<!\\)\$", text.replace(r"\\", ""))
    assert len(maths) % 2, "an odd number of $"
    outside = "".join(maths[::2])
    outside = re.sub(r"\\(?:label|ref)\{[\w:-]*\}", "", outside)
    bare = re.sub(r"\\[&%$#_{}]", "", outside)
    assert not re.search(r"[#_^~]", bare), re.findall(r".{0,20}[#_^~].{0,20}", bare)
    assert bare.isprintable() or "\n" in bare
    unknown = set(re.findall(r"\\([A-Za-z]+)", text)) - KNOWN
    assert not unknown, unknown
