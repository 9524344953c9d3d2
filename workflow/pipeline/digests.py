"""A digest of the code a script runs, so that an edit to a helper reruns exactly the rules that use it.

Comments, docstrings, formatting and time stamps do not enter. Only modules of this project that the script imports,
directly or not, do.
"""

import ast
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

# How a job is told what to do, how its files are written and checked, and what it takes of a GPU: no result depends on
# it. A table that no longer fits its specification is refused by whoever reads it. And the library's face, which serves
# names to its users and to no script.
PLUMBING = (
    "src/safety_geometry/__init__.py",
    "workflow/scripts/_job.py",
    "workflow/scripts/_gpu.py",
    "src/safety_geometry/artefacts/disk.py",
    "src/safety_geometry/artefacts/errors.py",
    "src/safety_geometry/artefacts/integrity.py",
    "src/safety_geometry/artefacts/tables",
)


def code_digest(root: Path, script: str) -> str:
    """First 16 hex digits over the script and every project module that decides its result."""
    lines = "\n".join(f"{path} {text}" for path, text in closure(root, script).items())
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def closure(root: Path, script: str) -> dict[str, str]:
    """The script and every project module that it imports, directly or not, but the plumbing: path below `root` ->
    digest."""
    seen: dict[Path, str] = {}
    plumbing = {root / path for path in PLUMBING}
    todo = [root / script]
    roots = (root / "src", (root / script).parent)
    while todo:
        path = todo.pop()
        if path not in seen and not plumbing.intersection((path, *path.parents)):
            seen[path], imported = _module(path, roots)
            todo += imported
    return {str(path.relative_to(root)): text for path, text in sorted(seen.items())}


@functools.cache
def _module(path: Path, roots: tuple[Path, ...]) -> tuple[str, tuple[Path, ...]]:
    """Digest of a module's syntax tree without docstrings, and the files below `roots` that it imports."""
    try:
        digest, names = _parsed(path.read_text(encoding="utf-8"))
    except (ValueError, SyntaxError) as error:
        raise ValueError(f"{path}, {error}") from None
    return digest, tuple({file for name in names for file in _files(name, path, roots)})


@functools.cache
def _parsed(text: str) -> tuple[str, frozenset[str]]:
    """Digest of a syntax tree without docstrings, and the dotted names that are imported."""
    tree = ast.parse(text)
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level > 1:
                raise ValueError(
                    f"line {node.lineno}: import with one dot or an absolute name, so that its digest is found"
                )
            module = "." * node.level + (node.module or "")
            names |= {module, *(f"{module}{'' if module.endswith('.') else '.'}{alias.name}" for alias in node.names)}
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), frozenset(names)


def _files(name: str, importer: Path, roots: tuple[Path, ...]) -> Iterator[Path]:
    """The project's files behind an imported name; relative (one dot): of the importer's own package."""
    parts = [part for part in name.split(".") if part]
    for base in (importer.parent,) if name.startswith(".") else roots:
        for depth in range(1, len(parts) + 1):  # a package's __init__ runs when its module is imported
            module = base.joinpath(*parts[:depth])
            files = [file for file in (module.with_suffix(".py"), module / "__init__.py") if file.is_file()]
            if not files and not module.is_dir():
                break
            yield from files
