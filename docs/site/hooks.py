"""Hooks of mkdocs (mkdocs.yml) for what the site has beyond the pages in docs/.

* README.md is the front page, and a file elsewhere in the repository that a page links to becomes a page. So one link
  serves a code host, the site, and the site opened from disk.
* Each package of the library has a page made of its docstrings; the names in docs/library.md link to them.
* TeX between dollar signs becomes MathML, which browsers show without a script.
"""

import posixpath
import re
from html import unescape
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^()\s#]+)(?=(?:#[^()\s]*)?\))")
NAME = re.compile(r"^\| `(\w+)` \| `([\w.]+)` \|", re.M)
MATHS = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.S)
LANGUAGES = {".cff": "yaml", ".py": "python", ".sh": "bash", ".toml": "toml", ".yaml": "yaml"}


def target(link: str, origin: str) -> str | None:
    """The file that a link in the repository's file `origin` means, from the repository's root; None if there is no
    such file."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), link))
    return path if (ROOT / path).is_file() else None


def place(path: str) -> str:
    """Where a file of the repository stands in the site's sources."""
    if path == "README.md":
        return "index.md"
    return path.removeprefix("docs/") if path.startswith("docs/") else f"repository/{path.removesuffix('.md')}.md"


def rewritten(text: str, origin: str) -> str:
    """`text` of the repository's file `origin` with its links as they have to be in the site."""

    def link(match: re.Match) -> str:
        path = target(match[1], origin)
        return posixpath.relpath(place(path), posixpath.dirname(place(origin)) or ".") if path else match[1]

    return LINK.sub(link, text)


def shown(path: str) -> str:
    """The page of a file of the repository."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".md"):
        return rewritten(text, path)
    return f"# {path}\n\n````{LANGUAGES.get(Path(path).suffix, 'text')}\n{text}\n````\n"


def on_files(files, config):
    """Adds the front page, the files that pages link to, and a page for each package."""
    pages = [f"docs/{file.src_uri}" for file in files.documentation_pages()] + ["README.md"]
    for origin in pages:  # which grows
        for link in LINK.findall((ROOT / origin).read_text(encoding="utf-8")) if origin.endswith(".md") else ():
            path = target(link, origin)
            if path and not path.startswith("docs/") and path not in pages:
                pages.append(path)
    for path in pages:
        if not path.startswith("docs/"):
            files.append(File.generated(config, place(path), content=shown(path)))
    for face in sorted((ROOT / "src" / "safety_geometry").glob("*/__init__.py")):
        package = face.parent.name
        page = f"# {package}\n\n::: safety_geometry.{package}\n"
        files.append(File.generated(config, f"api/{package}.md", content=page))
    return files


def on_page_markdown(markdown, page, config, files):
    """Links of a page of docs/, and in library.md those of the names to the packages' pages."""
    if page.file.generated_by:
        return markdown
    if page.file.src_uri == "library.md":
        markdown = NAME.sub(r"| [`\1`][safety_geometry.\2.\1] | `\2` |", markdown)
    return rewritten(markdown, f"docs/{page.file.src_uri}")


def on_page_content(html, page, config, files):
    """TeX as MathML."""
    return MATHS.sub(lambda m: convert(unescape(m[2]), display="inline" if m[1] == "span" else "block"), html)
