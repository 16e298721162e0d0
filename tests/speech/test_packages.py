"""Where the packages come from, and what is said when they cannot be had."""

import hashlib
from pathlib import Path

import pytest

from thinwire.speech.fillets import packages
from thinwire.speech.fillets.packages import Package, read_packages


def test_another_package_is_refused(tmp_path: Path) -> None:
    content = b"package"
    path = tmp_path / "p.deb"
    path.write_bytes(content)
    Package("p", "p.deb", 7, hashlib.sha256(content).hexdigest()).check(path)
    with pytest.raises(ValueError, match=r"p\.deb: expected 6 bytes, got more"):
        Package("p", "p.deb", 6, "0" * 64).check(path)
    with pytest.raises(ValueError, match=r"p\.deb: expected the SHA-256 digest 0000"):
        Package("p", "p.deb", 7, "0" * 64).check(path)


def test_an_unpacked_folder_is_read(tmp_path: Path) -> None:
    sound = tmp_path / "usr/share/games/fillets-ng/sound/city/cs/a-m.ogg"
    script = tmp_path / "usr/share/games/fillets-ng/script/city/dialogs_cs.lua"
    for path in (sound, script, sound.with_name("a.wav"), script.with_name("dialogs_nl.lua")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    assert read_packages(tmp_path, print) == {
        "sound/city/cs/a-m.ogg": b"x",
        "script/city/dialogs_cs.lua": b"x",
    }


def test_a_folder_without_packages_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected both packages.*--from FOLDER"):
        read_packages(tmp_path, print)
    (tmp_path / packages.SCRIPTS.file).write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=rf"{packages.VOICES.file}: expected this package"):
        read_packages(tmp_path, print)


def test_a_machine_without_apt_get_is_told_what_to_bring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "user_cache_path", lambda _: tmp_path)
    monkeypatch.setattr(packages.shutil, "which", lambda _: None)
    with pytest.raises(RuntimeError, match=r"apt-get is not .* bring fillets-ng-data-cs_.*--from"):
        read_packages(None, lambda _: None)
