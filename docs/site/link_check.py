"""Links of a built site: python docs/site/link_check.py build/site [--external]

Every link inside the site has to lead to a file, and to a place in it where it names one; nothing may be loaded from
elsewhere. Exit status 1 and a line for each that does not. --external lists the addresses that the pages link to, which
are not fetched.
"""

import argparse
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
LINKED = {"a": "href"}


class Page(HTMLParser):
    """Ids of a page, what it loads, and what it links to."""

    def __init__(self, text: str):
        super().__init__()
        self.ids: set[str] = set()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids |= {value for name in ("id", "name") if (value := values.get(name))}
        if loads := values.get(LOADED.get(tag, "")):
            self.loads.append(loads)
        if links := values.get(LINKED.get(tag, "")):
            self.links.append(links)


def broken_links(pages: dict[Path, Page]) -> list[str]:
    """A line for each link or file that is not there, and for each file from elsewhere that a page loads."""
    lines = []
    for path, page in pages.items():
        for link in page.loads + page.links:
            parts = urlsplit(link)
            if parts.scheme == "data" or (link in page.links and link not in page.loads and parts.netloc):
                continue
            if parts.scheme or parts.netloc:
                lines.append(f"{path}: loads {link}")
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not there.is_file():
                lines.append(f"{path}: no file {link}")
            elif parts.fragment and there in pages and unquote(parts.fragment) not in pages[there].ids:
                lines.append(f"{path}: no place {link}")
    return lines


def read(site: Path) -> dict[Path, Page]:
    """The pages of a site by their paths. 404.html is left out: its links are those of a site at a server's root."""
    files = sorted(file.resolve() for file in site.rglob("*.html") if file.name != "404.html")
    return {file: Page(file.read_text(encoding="utf-8")) for file in files}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("site", type=Path)
    parser.add_argument("--external", action="store_true", help="list the addresses that the pages link to")
    args = parser.parse_args()
    pages = read(args.site)
    broken = broken_links(pages)
    outside = {link for page in pages.values() for link in page.links if urlsplit(link).netloc}
    if args.external:
        print(*sorted(outside), sep="\n")
    print(
        *broken,
        f"{args.site}/index.html: {len(pages)} pages; {len(broken)} broken links; {len(outside)} addresses outside",
        sep="\n",
    )
    raise SystemExit(bool(broken))


if __name__ == "__main__":
    main()
