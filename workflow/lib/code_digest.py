"""A digest of the code a script runs, so that an edit to a helper reruns exactly the rules that use it.

Comments, docstrings, formatting and time stamps do not enter. Only modules of this project that the script imports,
directly or not, do.
"""

import ast
import functools
import hashlib
from pathlib import Path


def code_digest(root: Path, script: str) -> str:
    """First 16 hex digits over the script and every project module it imports."""
    seen: dict[Path, str] = {}
    todo = [root / script]
    roots = (root / "src", (root / script).parent)
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        text, names = _module(path)
        seen[path] = text
        for name in names:
            bases = roots
            if name.startswith("."):  # relative: one dot is the module's own package
                name = name.lstrip(".")
                bases = (path.parent,)
            parts = [part for part in name.split(".") if part]
            for base in bases:
                for depth in range(1, len(parts) + 1):  # a package's __init__ runs when its module is imported
                    module = base.joinpath(*parts[:depth])
                    todo += [p for p in (module.with_suffix(".py"), module / "__init__.py") if p.is_file()]
    lines = "\n".join(f"{path.relative_to(root)} {text}" for path, text in sorted(seen.items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


@functools.cache
def _module(path: Path) -> tuple[str, tuple[str, ...]]:
    """Digest of a module's syntax tree without docstrings, and the dotted names it imports."""
    tree = ast.parse(path.read_text(), str(path))
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level > 1:
                raise ValueError(
                    f"{path}, line {node.lineno}: import with one dot or an absolute name, so that its digest is found"
                )
            module = "." * node.level + (node.module or "")
            names += [module, *(f"{module}{'' if module.endswith('.') else '.'}{alias.name}" for alias in node.names)]
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), tuple(names)
