"""How much code there is: statements (by the syntax tree, docstrings not counted) and lines by area, of two revisions side by side.

    python benchmarks/statements.py [BEFORE [AFTER]]     revisions of git; without AFTER the files as they stand, without both these alone

Areas are the packages of the library and the folders of the workflow; rules count lines only, as Snakemake's language is not Python's.
"""

import argparse
import ast
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("src", "workflow")
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def statements(text: str) -> int:
    tree = ast.parse(text)
    total = sum(isinstance(node, ast.stmt) for node in ast.walk(tree))
    return total - sum(
        isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None for node in ast.walk(tree)
    )


def area(path: str) -> str:
    """`geometry` of the library, `workflow/scripts`; of files beside the packages their folder."""
    parts = Path(path).parts
    if parts[0] == "src":
        return parts[2] if len(parts) > 3 else "(library)"
    return "/".join(parts[:2]) if len(parts) > 2 else "workflow"


def files(revision: str | None) -> Iterator[tuple[str, str]]:
    """Path and text of every module and rule file; None: as they stand."""
    if revision is None:
        for path in sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".smk"):
                yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
        return
    for path in git("ls-tree", "-r", "--name-only", revision, *FOLDERS).splitlines():
        if path.endswith((".py", ".smk")):
            yield path, git("show", f"{revision}:{path}")


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, encoding="utf-8")
    return done.stdout


def count(revision: str | None) -> tuple[Counter, Counter]:
    """Statements and lines by area."""
    code, lines = Counter(), Counter()
    for path, text in files(revision):
        lines[area(path)] += len(text.splitlines())
        code[area(path)] += statements(text) if path.endswith(".py") else 0
    return code, lines


def table(sides: list[tuple[Counter, Counter]]) -> Iterator[str]:
    areas = sorted({name for code, _ in sides for name in code})
    head = ["statements", "lines"] * len(sides) + (["change"] if len(sides) > 1 else [])
    yield f"{'area':<22}" + "".join(f"{word:>12}" for word in head)
    for name in [*areas, "all"]:
        chosen = areas if name == "all" else [name]
        numbers = [sum(counts[part] for part in chosen) for side in sides for counts in side]
        row = f"{name:<22}" + "".join(f"{number:>12,}" for number in numbers)
        if len(sides) > 1:
            before, after = numbers[0], numbers[2]
            row += f"{after / before - 1:>+12.1%}" if before else f"{'new':>12}"
        yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revisions", nargs="*", metavar="REVISION", help="before, and after")
    revisions = parser.parse_args().revisions
    if len(revisions) > 2:
        parser.error("two revisions at the most")
    sides = revisions if len(revisions) == 2 else [*revisions, None]
    print("\n".join(table([count(revision) for revision in sides])))


if __name__ == "__main__":
    main()
