"""Fetch one source (package, hub, url or path) into a folder, or its only file to a file.

params: name (key in the configuration's `sources`), source (its settings). Give one of --folder and --file.
Nothing is installed or imported; a wrong hash, a missing member or no network ends the job with one plain line.
"""

import sys

from _job import Job, JobError

from safety_geometry.prompts.sources import Fetched, SourceError, fetch


def main() -> None:
    job = Job(__doc__, outputs=["folder?", "file?"])
    if (job.folder is None) == (job.file is None):
        raise JobError("give one of --folder and --file")
    name, source = job.params["name"], job.params["source"]
    print(f"fetching {name} ({source.get('kind')})", file=sys.stderr)
    try:
        fetched = into_folder(job, source, name) if job.folder else into_file(job, source, name)
    except SourceError as error:
        raise JobError(str(error)) from error
    at = f" at commit {fetched.revision}" if fetched.revision else ""
    if fetched.revision and fetched.revision != source["revision"]:
        at += f" (set sources.{name}.revision to it: {source['revision']} may move)"
    print(f"{name}: {len(fetched.files)} file(s), {fetched.size / 1e6:.1f} MB{at}", file=sys.stderr)


def into_folder(job: Job, source: dict, name: str) -> Fetched:
    with job.publish(job.folder) as scratch:
        return fetch(source, scratch, name)


def into_file(job: Job, source: dict, name: str) -> Fetched:
    import shutil

    with job.publish(job.file) as scratch:
        folder = scratch.with_name(scratch.name + ".d")
        try:
            fetched = fetch(source, folder, name)
            if len(fetched.files) != 1:
                raise JobError(
                    f"sources.{name} gives {len(fetched.files)} files where one is needed; narrow its members"
                )
            (folder / fetched.files[0]).replace(scratch)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return fetched


if __name__ == "__main__":
    main()
