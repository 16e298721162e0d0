"""The folder of a synthetic corpus: whether it may be written, and what it needs."""

import shutil
from pathlib import Path

from thinwire.files import FileError, read_text, writing
from thinwire.speech.classes import FILE as CLASSES
from thinwire.speech.features import FRAMES_A_SECOND, MEL_BANDS
from thinwire.speech.synth.settings import Settings
from thinwire.speech.synth.statistics import TITLE

PARTS = ("train", "test")
STATISTICS = "statistics.md"
_FILES = ("feats.scp", "feats.ark", "ali.scp", "ali.ark", "utt2spk", CLASSES)
_FRAME = 4 * MEL_BANDS + 5  # bytes of a frame's features and its class number
_MORE = 1.02  # names and lists


def check_folder(out: Path, settings: Settings) -> None:
    """Check that a folder is new, empty or an earlier corpus of this kind, and has room.

    Raises:
        FileError: it is not, or has not.
        ValueError: the page of an earlier corpus is not text.
        OSError: it cannot be read.
    """
    hours = settings.train_hours + settings.held_out_hours
    if out.exists() or out.is_symlink():
        _check_contents(out)
    place = next(each for each in (out, *out.absolute().parents) if each.exists())
    needed = int(hours * 3600 * FRAMES_A_SECOND * _FRAME * _MORE)
    free = shutil.disk_usage(place).free
    if needed > free:
        raise FileError(
            f"{out}: {hours:g} hours need {needed / 1e9:.1f} GB, and the disk has "
            f"{free / 1e9:.1f} GB free; ask for fewer hours or name another folder"
        )


def clear_folder(out: Path) -> None:
    """Make the folder, and remove the files of an earlier corpus.

    Raises:
        FileError: the disk refuses.
    """
    with writing(out):
        for part in PARTS:
            (out / part).mkdir(parents=True, exist_ok=True)
            for name in _FILES:
                (out / part / name).unlink(missing_ok=True)


def _check_contents(out: Path) -> None:
    if not out.is_dir():
        raise FileError(f"{out}: expected a folder or nothing, got a file; name another")
    if not any(out.iterdir()):
        return
    page = out / STATISTICS
    if not page.is_file() or not read_text(page).startswith(TITLE):
        raise FileError(
            f"{out}: expected a new or empty folder, or an earlier corpus of this command, got a "
            "folder that holds something else; name another"
        )
