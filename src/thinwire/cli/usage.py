"""Turning arguments into typed values, and mistakes into one clear line."""

import contextlib
import difflib
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar, get_type_hints

T = TypeVar("T")
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
# What other programs call a field.
_ELSEWHERE = {
    "learning-rate": "lr",
    "batch-size": "minibatch",
    "max-epochs": "epochs",
    "num-workers": "workers",
    "nproc-per-node": "workers",
    "bits": "code",
    "output": "out",
    "output-dir": "out",
}


class UsageError(Exception):
    """A mistake of the user's: printed as one line, exit code 2."""


class FailedError(Exception):
    """The machine would not go on, as with a full disk: printed as one line, exit code 1."""


@contextlib.contextmanager
def user_errors(prefix: str = "") -> Iterator[None]:
    """Errors about the user's input become a ``UsageError``."""
    try:
        yield
    except (ValueError, OSError, RuntimeError) as error:
        raise UsageError(f"{prefix}{error}") from error


def one_line(message: object) -> str:
    """A message as one printable line; of a very long one the middle is left out.

    >>> one_line("a" + chr(10) + "b")
    'a b'
    """
    text = " ".join(str(message).split())
    if len(text) > 2000:
        text = f"{text[:1500]} ... {text[-400:]}"
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def shortly(value: float) -> str:
    """A number that a user gave, however many digits it has.

    >>> shortly(3), shortly(10**400)
    ('3', 'an integer of 1329 bits')
    """
    long = isinstance(value, int) and value.bit_length() > 128
    return f"an integer of {int(value).bit_length()} bits" if long else str(value)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint at the closest known name, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def parse(default: T, args: Sequence[str], *, prog: str) -> T:
    """Parse arguments into a dataclass.

    Args:
        default: an instance of it, for the fields that no flag sets; nested fields are dotted
            flags.
        args: the arguments.
        prog: the command, for --help.

    Raises:
        UsageError: an unknown flag (with the nearest one), a bad or missing value.
        SystemExit: after --help.
    """
    import tyro  # an extra has it, and `thinwire --help` does without

    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output):
            value, unknown = tyro.cli(
                type(default),
                args=_with_truth(args, switches(type(default))),
                default=default,
                prog=prog,
                return_unknown_args=True,
                config=(tyro.conf.FlagConversionOff,),
            )
    except SystemExit as stop:
        if stop.code != 2:
            raise
        said = _first_section(output.getvalue())
        # A dataclass's own check names the field better than the dataclass does.
        raise UsageError(re.sub(r"^Error parsing \w+: (?=\S+: )", "", said)) from None
    except ValueError as error:  # from a field's own check
        raise UsageError(str(error)) from None
    if unknown:
        flag = unknown[0].split("=")[0]
        hint = _nearest_flag(flag, flags(type(default))) if flag.startswith("-") else ""
        raise UsageError(f"unknown argument {flag!r}{hint}")
    return value


def flags(kind: type[object], prefix: str = "--") -> list[str]:
    """All flags of a dataclass, nested ones dotted."""
    found = []
    for name, field in getattr(kind, "__dataclass_fields__", {}).items():
        dashed = name.replace("_", "-")
        if hasattr(field.type, "__dataclass_fields__"):
            found += flags(field.type, f"{prefix}{dashed}.")
        else:
            found.append(prefix + dashed)
    return found


def switches(kind: type[object], prefix: str = "--") -> list[str]:
    """Those flags of a dataclass that are true or false, and nothing else."""
    hints = get_type_hints(kind)
    found = []
    for name, of_type in hints.items():
        dashed = prefix + name.replace("_", "-")
        if of_type is bool:
            found.append(dashed)
        elif hasattr(of_type, "__dataclass_fields__"):
            found += switches(of_type, f"{dashed}.")
    return found


def _with_truth(args: Sequence[str], switched: Iterable[str]) -> list[str]:
    """Spell out switches as the parser takes them: a flag alone is true.

    >>> _with_truth(["--a", "--b", "no", "--c=on", "--d", "1"], ["--a", "--b", "--c"])
    ['--a', 'True', '--b', 'False', '--c=True', '--d', '1']
    """
    known, spelt = set(switched), list[str]()
    for position, arg in enumerate(args):
        flag, equals, value = arg.partition("=")
        before = args[position - 1] if position else ""
        if flag in known and equals:
            spelt.append(f"{flag}={_truth(value)}")
        elif before in known and not arg.startswith("--"):
            spelt.append(_truth(arg))
        else:
            spelt.append(arg)
        last = position + 1 == len(args) or args[position + 1].startswith("--")
        if arg in known and last:
            spelt.append("True")
    return spelt


def _truth(word: str) -> str:
    if word.lower() in _TRUE:
        return "True"
    return "False" if word.lower() in _FALSE else word


def _nearest_flag(flag: str, known: Sequence[str]) -> str:
    """A hint at the flag that was meant, by what other programs call it or by its letters."""
    section, dot, name = flag.removeprefix("--").rpartition(".")
    own = _ELSEWHERE.get(name)
    meant = [each for each in known if own and each.removeprefix("--").split(".")[-1] == own]
    same = [each for each in meant if each == f"--{section}{dot}{own}"]
    return f", did you mean {(same or meant)[0]!r}?" if meant else nearest(flag, known)


def _first_section(box: str) -> str:
    """The sentence of a boxed error message."""
    words: list[str] = []
    for line in box.splitlines():
        text = line.strip("│╭╮╰╯ ")
        if set(text) <= {"─"} or line.startswith("╰"):
            if words:
                break
        elif not line.startswith("╭"):
            words += text.split()
    return " ".join(words) or "cannot read the arguments"
