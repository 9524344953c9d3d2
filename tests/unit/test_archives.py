"""Archives and folders of others: what would leave the folder, overwrite, never end or is no file is refused in one sentence."""

import errno
import gzip
import io
import os
import socket
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from safety_geometry.prompts import archives, fetchers, source_files
from safety_geometry.prompts.sources import SourceError, fetch

TEXT = b"Bake bread\n"


def zip_of(path: Path, *members, method=zipfile.ZIP_DEFLATED) -> Path:
    """members: names, or (name, bytes) or (name, bytes, mode)."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for member in members:
            name, data, mode = (member, TEXT, None) if isinstance(member, str) else (*member, None)[:3]
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            if mode is not None:
                info.create_system, info.external_attr = 3, mode << 16
            archive.writestr(info, data)
    return path


def tar_of(path: Path, *members) -> Path:
    """members: names, (name, bytes), or TarInfo."""
    kind = {".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}.get(path.suffix, "w")
    with tarfile.open(path, kind) as archive:
        for member in members:
            name, data = (
                (member, TEXT) if isinstance(member, str) else member if isinstance(member, tuple) else (None, b"")
            )
            info = member if name is None else tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def entry(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def take(archive: Path, *members: str) -> Path:
    """Fetch `members` (all, unless named) of a local archive; its folder."""
    target = archive.parent / "taken"
    fetch({"kind": "path", "path": str(archive), "members": list(members) or ["**"]}, target, "mine")
    return target


def refused(archive: Path, said: str, *members: str) -> str:
    """One sentence that names source and archive, and nothing left behind."""
    before = sorted(archive.parent.iterdir())
    with pytest.raises(SourceError, match=said) as caught:
        take(archive, *members)
    assert sorted(archive.parent.iterdir()) == before
    message = str(caught.value)
    assert message.startswith(f"sources.mine: {archive.name}: ") and message.isprintable()
    return message


@pytest.mark.parametrize("name", ["a.zip", "a.whl", "a.tar", "a.tar.gz", "a.tgz", "a.tar.bz2", "a.tar.xz", "A.TAR.GZ"])
def test_members_come_out_of_every_kind(name, tmp_path):
    make = zip_of if name.endswith(("zip", "whl")) else tar_of
    if name == "A.TAR.GZ":
        tar_of(tmp_path / "a.tgz", "data/x.txt", "data/y.csv").rename(tmp_path / name)
    else:
        make(tmp_path / name, "data/x.txt", ("data/deep/ä b.txt", b"more"), "y.csv")
    folder = take(tmp_path / name, "data/*.txt")
    assert [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()] == ["data/x.txt"]
    assert (folder / "data/x.txt").read_bytes() == TEXT and stat.S_IMODE(
        (folder / "data/x.txt").stat().st_mode
    ) & 0o7000 == 0


def test_names_that_tar_begins_with_a_dot(tmp_path):
    folder = take(
        tar_of(tmp_path / "a.tar", entry("./", tarfile.DIRTYPE), entry("./in", tarfile.DIRTYPE), "./in/x.txt"), "in/*"
    )
    assert (folder / "in/x.txt").read_bytes() == TEXT


@pytest.mark.parametrize("make", [zip_of, tar_of])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../out.txt", "outside its own folder"),
        ("in/../../out.txt", "outside its own folder"),
        ("/tmp/out.txt", "outside its own folder"),
        ("C:/out.txt", "outside its own folder"),
        ("..\\out.txt", "outside its own folder"),
        ("in\\x.txt", "no plain path"),
        ("in//x.txt", "no plain path"),
        ("in/./x.txt", "no plain path"),
        ("x\x1b[2J.txt", "control a terminal"),
        ("x\n.txt", "control a terminal"),
        ("x\u202etxt.exe", "control a terminal"),
        ("x\u2028.txt", "control a terminal"),
    ],
)
def test_names_that_are_no_plain_path(make, name, said, tmp_path):
    archive = make(tmp_path / ("a.zip" if make is zip_of else "a.tar"), "good.txt", name)
    refused(archive, said)
    refused(archive, said, "good.txt")  # whoever writes such a name is not trusted with the other one


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["x.txt", "x.txt"], "'x.txt' is there 2 times"),
        (
            ["in/Read.txt", "in/README.txt", "in/readme.TXT"],
            "'in/README.txt' and 'in/readme.TXT' are one file where case",
        ),
        (["stra\u00dfe", "STRASSE"], "where case does not count"),
        (["caf\u00e9", "cafe\u0301"], "where case does not count"),
        (["x", "x/below.txt"], "'x' is no folder, and 'x/below.txt' lies below it"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("make", [zip_of, tar_of])
def test_members_that_would_overwrite_each_other(make, names, said, tmp_path):
    archive = make(tmp_path / ("a.zip" if make is zip_of else "a.tar"), "other.txt", *names)
    refused(archive, said)
    assert (take(archive, "other.txt") / "other.txt").exists()


@pytest.mark.parametrize("kind", ["link", "fifo", "device", "socket"])
def test_zip_members_that_are_no_files(kind, tmp_path):
    mode = {"link": stat.S_IFLNK, "fifo": stat.S_IFIFO, "device": stat.S_IFBLK, "socket": stat.S_IFSOCK}[kind] | 0o777
    archive = zip_of(tmp_path / "a.zip", ("x", b"/etc", mode), "y.txt")
    refused(archive, "is a link" if kind == "link" else "neither a file nor a folder")
    below = zip_of(tmp_path / "b.zip", ("x", b"/tmp", mode), "x/below.txt")
    refused(below, "lies below it|is a link|neither")
    assert take(archive, "y.txt").exists()


@pytest.mark.parametrize(
    "member",
    [
        entry("x", tarfile.SYMTYPE, "/etc/hostname"),
        entry("x", tarfile.SYMTYPE, "y.txt"),
        entry("x", tarfile.LNKTYPE, "y.txt"),
        entry("x", tarfile.FIFOTYPE),
        entry("x", tarfile.CHRTYPE),
        entry("x", tarfile.BLKTYPE),
    ],
    ids=lambda member: repr(member.type) + member.linkname,
)
def test_tar_members_that_are_no_files(member, tmp_path):
    refused(tar_of(tmp_path / "a.tar", "y.txt", member), "'x' is a link|'x' is neither a file nor a folder")
    refused(tar_of(tmp_path / "b.tar", "y.txt", member, "x/below.txt"), "'x' is a link|'x' is n")
    assert take(tmp_path / "a.tar", "y.txt").exists()


ZEROS = bytes(400_000)


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.tar.bz2", "a.tar.xz"])
def test_bombs_are_stopped_by_their_ratio(name, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "RATIO_FROM", 100_000)
    make = zip_of if name == "a.zip" else tar_of
    archive = make(tmp_path / name, ("zeros", ZEROS), "good.txt")
    assert archive.stat().st_size * 100 < len(ZEROS)
    refused(archive, "bytes unpack to more than 100 times as many.*unpack it yourself")
    monkeypatch.setattr(archives, "RATIO_FROM", len(ZEROS) * 2)
    assert (take(archive) / "zeros").stat().st_size == len(ZEROS)


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_size_is_bounded_over_all_members(name, tmp_path, monkeypatch):
    make = zip_of if name == "a.zip" else tar_of
    archive = make(tmp_path / name, *((f"{i}.bin", os.urandom(3000)) for i in range(5)))
    monkeypatch.setattr(archives, "MAX_BYTES", 12_000)
    refused(archive, "unpacks to more than 12,000 bytes")
    monkeypatch.setattr(archives, "MAX_BYTES", 40_000)
    assert len(list(take(archive).iterdir())) == 5


def test_sizes_are_counted_whatever_the_headers_say(tmp_path, monkeypatch):
    archive = zip_of(tmp_path / "a.zip", ("zeros", ZEROS))
    data = archive.read_bytes()
    size = len(ZEROS).to_bytes(4, "little")
    assert data.count(size) == 2
    archive.write_bytes(data.replace(size, (70).to_bytes(4, "little")))  # claims to be small
    refused(archive, "damaged")
    monkeypatch.setattr(archives, "MAX_BYTES", 1000)
    archive.write_bytes(data)
    refused(archive, "more than 1,000 bytes")


def test_number_of_members_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    for make, name in ((zip_of, "a.zip"), (tar_of, "a.tar.gz")):
        refused(make(tmp_path / name, *(f"{i}.txt" for i in range(4))), "more than 3 members", "0.txt")
        (tmp_path / name).unlink()


def test_a_tar_header_that_says_it_is_huge_is_not_read(tmp_path):
    for kind in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE):
        header = entry("x", kind)
        header.size = 30 * 2**20
        with gzip.open(tmp_path / "a.tar.gz", "wb") as file:
            file.write(header.tobuf(tarfile.GNU_FORMAT) + bytes(header.size + 1024))
        refused(tmp_path / "a.tar.gz", "a header of 31,457,280 bytes|more than 100 times")
    far = tarfile.TarInfo("far.bin")
    far.size = 2**50
    (tmp_path / "b.tar").write_bytes(far.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
    refused(tmp_path / "b.tar", "unpacks to more than 68,719,476,736 bytes")


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz"])
def test_damaged_archives(name, tmp_path):
    make = zip_of if name == "a.zip" else tar_of
    data = make(tmp_path / name, ("x.bin", os.urandom(30_000)), "y.txt").read_bytes()
    middle = len(data) // 2
    for broken in (b"", b"no archive at all", data[:middle], data[:100] + bytes(200) + data[300:]):
        (tmp_path / name).write_bytes(broken)
        refused(tmp_path / name, "damaged")


def test_an_encrypted_member(tmp_path):
    archive = zip_of(tmp_path / "a.zip", "x.txt")
    data = bytearray(archive.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + flags] |= 1
    archive.write_bytes(data)
    refused(archive, "'x.txt' is encrypted")


@pytest.fixture
def home(tmp_path) -> Path:
    (tmp_path / "home/sub").mkdir(parents=True)
    (tmp_path / "home/a.txt").write_text("a", encoding="utf-8")
    (tmp_path / "secret").write_text("s", encoding="utf-8")
    return tmp_path / "home"


def fetched(home: Path, **more) -> list[str]:
    return list(fetch({"kind": "path", "path": str(home), **more}, home.parent / "out", "mine").files)


@pytest.mark.parametrize("link", [False, True])
def test_a_folders_links_stay_in_it(home, link):
    (home / "sub/same.txt").symlink_to("../a.txt")
    assert fetched(home, link=link) == ["a.txt", "sub/same.txt"]
    assert (home.parent / "out/sub/same.txt").read_text(encoding="utf-8") == "a"


@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("../../secret", "outside the folder"),
        ("/etc/hostname", "outside the folder"),
        ("../../home-too/x", "outside the folder"),
        ("nothing", "a link to nothing"),
        ("../sub", "a link to a folder"),
        ("same.txt", "a link to nothing"),  # to itself
    ],
)
def test_a_folders_links_that_leave_it(home, target, said, link):
    (home.parent / "home-too").mkdir()
    (home.parent / "home-too/x").touch()
    (home / "sub/same.txt").symlink_to(target)
    with pytest.raises(SourceError, match=said) as caught:
        fetched(home, link=link)
    assert "same.txt" in str(caught.value) and not (home.parent / "out").exists()
    assert fetched(home, members=["*.txt"], link=link) == ["a.txt"]  # one that is not asked for does no harm


def test_a_folder_of_the_hubs_cache(tmp_path):
    blobs, snapshot = tmp_path / "models--me--tiny/blobs", tmp_path / "models--me--tiny/snapshots/0123"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (blobs / "abc").write_text("{}", encoding="utf-8")
    (snapshot / "config.json").symlink_to("../../blobs/abc")
    assert fetched(snapshot) == ["config.json"] and not (snapshot.parent / "out/config.json").is_symlink()


def test_a_folders_special_files(home):
    os.mkfifo(home / "sub/pipe")
    with pytest.raises(SourceError, match=r"'sub/pipe' is neither a file nor a folder.*members"):
        fetched(home)
    with pytest.raises(SourceError, match="pipe is neither a file nor a folder; correct"):
        fetched(home / "sub/pipe")
    with pytest.raises(SourceError, match="neither a file nor a folder"):
        fetched(Path("/dev/null"))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(home / "s"))
        with pytest.raises(SourceError, match="'s' is neither"):
            fetched(home, members=["s"])
    assert fetched(home, members=["a.txt"]) == ["a.txt"]


def test_paths_that_cannot_be_read(home, monkeypatch):
    (home / "gone").symlink_to("nowhere")
    for path, said in (
        (home / "gone", "a link to nothing"),
        ("~no_such_user_here/x", "without a home"),
        (home / "b", "not exist"),
    ):
        with pytest.raises(SourceError, match=said):
            fetch({"kind": "path", "path": str(path)}, home.parent / "out", "mine")
    (home / "gone").unlink()

    def denied(*_):
        raise PermissionError(errno.EACCES, "Permission denied", str(home / "a.txt"))

    monkeypatch.setattr(source_files.shutil, "copyfile", denied)
    with pytest.raises(
        SourceError, match=r"^sources\.mine: Permission denied \(.*a\.txt\); correct this and run again$"
    ):
        fetched(home)
    assert sorted(p.name for p in home.parent.iterdir()) == ["home", "secret"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_a_sentence(number, home, monkeypatch):
    archive = zip_of(home.parent / "a.zip", "x.txt")

    def full(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(SourceError, match=r"no space left on the disk at .*free some and run again"):
        take(archive)
    monkeypatch.undo()
    assert not (home.parent / "taken").exists()


class Response(io.BytesIO):
    status = 200

    def __init__(self, body: bytes, **headers):
        super().__init__(body)
        self.headers = headers


def test_a_download_that_does_not_fit(tmp_path, monkeypatch):
    large = Response(b"x" * 5000)
    large.headers = {"Content-Length": str(10**16)}
    monkeypatch.setattr(fetchers.urllib.request, "urlopen", lambda *_, **__: large)
    with pytest.raises(SourceError, match=r"no space left on the disk for big: it has 10,000,000,000,000,000 bytes"):
        fetchers.download("http://here/big", tmp_path / "big", None, "sources.mine")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetchers.urllib.request, "urlopen", lambda *_, **__: Response(b"x"))
    monkeypatch.setattr(fetchers, "_stream", full)
    with pytest.raises(
        OSError, match="No space left"
    ):  # `fetch` makes a sentence of it; it is no matter of the network
        fetchers.download("http://here/big", tmp_path / "big", None, "sources.mine")


def test_a_download_that_never_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(fetchers, "MAX_DOWNLOAD", 3000)
    monkeypatch.setattr(fetchers.urllib.request, "urlopen", lambda *_, **__: Response(b"x" * 5000))
    with pytest.raises(SourceError, match="endless has more than 3,000 bytes"):
        fetchers.download("http://here/endless", tmp_path / "endless", None, "sources.mine")
