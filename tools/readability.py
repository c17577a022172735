"""Measures how the source reads: comments, Args sections, comprehensions and line lengths, as a table by folder.

python tools/readability.py                       # every folder of src/sidelight
python tools/readability.py src/sidelight/data    # one folder
python tools/readability.py path/to/peer          # another library, counted in the same way
"""

from __future__ import annotations

import argparse
import ast
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
SECTIONS = ("Args:", "Arguments:", "Parameters\n", "Parameters:", ":param ")


@dataclass
class Counts:
    """What is counted in a set of files; blank lines, comments and docstrings are not lines of code."""

    code_lines: int = 0
    code_characters: int = 0
    comments: int = 0
    comprehensions: int = 0
    documented: int = 0
    with_args: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


def docstring_lines(tree: ast.Module) -> set[int]:
    """The numbers of the lines that belong to docstrings, those below assignments included."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def public_functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    """Functions and methods that do not begin with an underscore, at the top level or in public classes."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node)


def count(path: Path) -> Counts:
    """Counts of one file."""
    text = path.read_text("utf-8")
    tree = ast.parse(text)
    skipped = docstring_lines(tree)
    counts = Counts()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        # A marker for a tool (noqa, type: ignore, fmt: skip) explains nothing to a reader.
        if token.type == tokenize.COMMENT and not token.string.startswith(("# noqa", "# type:", "# fmt:")):
            counts.comments += 1
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and number not in skipped and not line.strip().startswith("#"):
            counts.code_lines += 1
            counts.code_characters += len(line)
    counts.comprehensions = sum(isinstance(node, COMPREHENSIONS) for node in ast.walk(tree))
    for function in public_functions(tree):
        arguments = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
        names = [a.arg for a in arguments if a.arg not in ("self", "cls")]
        described = ast.get_docstring(function)
        if described and len(names) >= 3:
            counts.documented += 1
            counts.with_args += any(section in described + "\n" for section in SECTIONS)
    return counts


def row(name: str, counts: Counts) -> str:
    """One line of the table."""
    lines = max(counts.code_lines, 1)
    share = f"{100 * counts.with_args / counts.documented:.0f} %" if counts.documented else "–"
    return (
        f"{name:24} {counts.code_lines:7d} {100 * counts.comments / lines:10.1f} {share:>8}"
        f" {100 * counts.comprehensions / lines:14.1f} {counts.code_characters / lines:12.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parents[1] / "src" / "sidelight")
    folder = parser.parse_args().folder
    groups: dict[str, Counts] = {}
    for path in sorted(folder.rglob("*.py")):
        inside = path.relative_to(folder).parts
        name = inside[0] if len(inside) > 1 else "."
        groups[name] = groups.get(name, Counts()) + count(path)
    print(f"{'':24} {'lines':>7} {'comments':>10} {'Args':>8} {'comprehensions':>14} {'characters':>12}")
    print(f"{'':24} {'':>7} {'/ 100':>10} {'':>8} {'/ 100':>14} {'/ line':>12}")
    for name, counts in groups.items():
        print(row(name, counts))
    print(row("all", sum(groups.values(), Counts())))


if __name__ == "__main__":
    main()
