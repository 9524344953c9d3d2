"""Fetch one source (package, hub, url or path) into a folder, or its only file to a file.

params: name (key in the configuration's `sources`), source (its settings), where (another key, for messages), cache (of
a hub's files, deleted at the end, instead of the user's). Give one of --folder and --file.
Nothing is installed or imported; a wrong hash, a missing member or no network ends the job with one plain line.
"""

import sys
from pathlib import Path

from _job import Job, JobError, explained

from safety_geometry.artefacts.disk import remove
from safety_geometry.prompts.sources import Fetched, SourceError, fetch


def main() -> None:
    job = Job(__doc__, outputs=["folder?", "file?"])
    if (job.folder is None) == (job.file is None):
        raise JobError("give one of --folder and --file")
    name, source = job.params["name"], job.params["source"]
    where = job.params.get("where", f"sources.{name}")
    print(f"fetching {name} ({source.get('kind')})", file=sys.stderr)
    with explained(SourceError), job.publish(job.folder or job.file) as scratch:
        if job.folder:
            cache = Path(job.params["cache"]) if "cache" in job.params else None
            fetched = fetch(source, scratch, name, where, cache)
        else:
            fetched = fetch_file(source, scratch, name)
    commit = f" at commit {fetched.revision}" if fetched.revision else ""
    if fetched.revision and fetched.revision != source["revision"]:
        advice = "" if "where" in job.params else f"set sources.{name}.revision to it: "  # a pattern has no one commit
        commit += f" ({advice}{source['revision']} may move)"
    print(f"{name}: {len(fetched.files)} file(s), {fetched.size / 1e6:.1f} MB{commit}", file=sys.stderr)


def fetch_file(source: dict, file: Path, name: str) -> Fetched:
    folder = file.with_name(file.name + ".d")
    try:
        fetched = fetch(source, folder, name)
        if len(fetched.files) != 1:
            raise JobError(f"sources.{name} gives {len(fetched.files)} files where one is needed; narrow its members")
        (folder / fetched.files[0]).replace(file)
    finally:
        remove(folder)
    return fetched


if __name__ == "__main__":
    main()
