"""The documentation as a site: it builds without a warning, its links lead somewhere, nothing comes from a network."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

import safety_geometry

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def check():
    sys.path.insert(0, str(ROOT / "docs" / "site"))
    try:
        import link_check
    finally:
        sys.path.pop(0)
    return link_check


@pytest.fixture(scope="module")
def site(tmp_path_factory, worker_id):
    scratch = tmp_path_factory.getbasetemp().resolve()
    if worker_id != "master":  # the workers share one: the first that asks builds it, the others wait
        scratch = scratch.parent
    folder, log = scratch / "site", scratch / "site.log"
    with FileLock(scratch / "site.lock"):
        if not log.exists():
            # Without --quiet, which hides warnings from --strict as well; without a network.
            command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
            environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "https_proxy": "http://127.0.0.1:9"}
            done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
            log.write_text(f"{done.stdout}{done.stderr}exit status {done.returncode}\n")
    said = log.read_text()
    assert said.endswith("exit status 0\n") and "WARNING" not in said, f"make docs fails:\n{said}"
    return folder


@pytest.fixture(scope="module")
def pages(site, check):
    return check.read(site)


def test_links_lead_somewhere_and_nothing_is_loaded_from_elsewhere(site, check, pages):
    assert len(pages) > 30 and check.broken_links(pages) == []
    loaded = "".join(file.read_text(encoding="utf-8") for file in site.rglob("*.css"))
    assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", loaded)


def test_every_page_has_its_place(site):
    """A page in docs/ and a package of the library each have one; README.md is the front page."""
    written = {file.stem for file in (ROOT / "docs").glob("*.md")} | {"index", "results/index"}
    written |= {f"api/{face.parent.name}" for face in (ROOT / "src" / "safety_geometry").glob("*/__init__.py")}
    assert [name for name in written if not (site / f"{name}.html").is_file()] == []
    front = (site / "index.html").read_text(encoding="utf-8")
    assert 'src="results/aligned/figures/aligned_anchors.png"' in front and 'href="troubleshooting.html"' in front
    assert 'href="repository/configs/checkpoints.yaml.html"' in front


@pytest.mark.parametrize("name", safety_geometry.__all__)
def test_every_name_of_the_library_has_its_place_in_the_reference(site, pages, name):
    module = getattr(safety_geometry, name).__module__
    package = site / "api" / f"{module.split('.')[1]}.html"
    assert f"{module}.{name}" in pages[package].ids


def test_formulas_need_no_script(site):
    protocol = (site / "protocol.html").read_text(encoding="utf-8")
    assert protocol.count("<math") > 100 and "arithmatex" not in protocol and "\\(" not in protocol


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ("gone.html", "no file gone.html"),
        ("other.html#gone", "no place other.html#gone"),
        ("#gone", "no place #gone"),
    ],
)
def test_a_broken_link_is_found(tmp_path, check, link, said):
    (tmp_path / "page.html").write_text(
        f'<a href="{link}">x</a><a href="other.html#here">y</a><a href="https://a.b">z</a>'
    )
    (tmp_path / "other.html").write_text('<h1 id="here">x</h1>')
    (line,) = check.broken_links(check.read(tmp_path))
    assert line == f"{(tmp_path / 'page.html').resolve()}: {said}"


def test_a_script_from_elsewhere_is_found(tmp_path, check):
    (tmp_path / "page.html").write_text('<script src="https://a.b/c.js"></script>')
    (line,) = check.broken_links(check.read(tmp_path))
    assert line.endswith("loads https://a.b/c.js")
