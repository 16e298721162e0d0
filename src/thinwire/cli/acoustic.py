"""What ``forward``, ``align`` and ``decode`` have in common: a run, a folder, likelihoods."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from rich.console import Console
from rich.progress import track

from thinwire.cli.usage import UsageError, parse
from thinwire.data.kaldi import FEATURES, Utterances, read_corpus, refuse
from thinwire.data.kaldi.corpus import Corpus
from thinwire.speech.scores import Scorer, log_priors
from thinwire.train.recipe import Recipe
from thinwire.train.trained import load_trained, recipe_of_run


@dataclass(frozen=True, kw_only=True)
class Fields:
    """Where results go and where priors come from."""

    out: Path | None = None
    """Folder for the results."""
    trained_on: Path | None = None
    """Folder whose alignments tell how frequent classes are; by default the run's own data."""


@dataclass(frozen=True)
class Acoustic:
    """A trained network and the folder it is to be used on.

    Attributes:
        trained: what the network was trained on.
        utterances: of the folder.
        scorer: the network, with the priors of the folder it was trained on.
    """

    trained: Corpus
    utterances: Utterances
    scorer: Scorer

    def numbers(self, what: str) -> Iterator[int]:
        """Go through the utterances, with a progress bar on a terminal."""
        numbers: Iterable[int] = range(len(self.utterances))
        console = Console(stderr=True)
        yield from track(numbers, what, console=console, disable=not console.is_terminal)


F = TypeVar("F", bound=Fields)


def arguments(args: list[str], usage: str, command: str, fields: F) -> tuple[Path, Path | None, F]:
    """Read RUN, FOLDER (None where it is not given) and the flags.

    Args:
        args: as typed.
        usage: its first line is shown where something is missing.
        command: of ``thinwire``.
        fields: with their defaults.

    Raises:
        UsageError: there are others, or none.
    """
    given = [Path(arg) for arg in args[:2] if not arg.startswith("-")]
    if not given or args[0].startswith("-"):
        raise UsageError(f"expected a run folder; {usage.splitlines()[0]}")
    fields = parse(fields, args[len(given) :], prog=f"thinwire {command}")
    return given[0], given[1] if len(given) > 1 else None, fields


def acoustic(
    run: Path,
    folder: Path | None,
    fields: Fields,
    *,
    aligned: bool,
    default: Literal["training", "test"] = "training",
) -> Acoustic:
    """Load a run and open a folder.

    Args:
        run: the run folder.
        folder: of Kaldi features.
        fields: see there.
        aligned: whether the folder's alignments are needed.
        default: which of the run's own folders is taken where none is given.

    Raises:
        ValueError: naming the file and what was expected there.
        OSError: a file is missing or cannot be read.
    """
    recipe = recipe_of_run(run)
    trained_on = fields.trained_on or Path(recipe.data.path or "")
    if recipe.data.path is None or not (trained_on / FEATURES).is_file():
        raise ValueError(
            f"{trained_on}: expected a folder of Kaldi features on which {run} was trained; "
            "--trained-on says where it is now"
        )
    if folder is None and default == "test":
        folder = _test_folder(run, recipe)
    trained = read_corpus(trained_on, refuse)
    utterances = Utterances(folder or trained_on, recipe.data, aligned=aligned, note=print)
    classes = recipe.data.classes or trained.classes
    priors = log_priors(trained.counts_of(classes))
    network = load_trained(run, recipe, utterances.values, classes)
    return Acoustic(trained, utterances, Scorer(network, priors))


def _test_folder(run: Path, recipe: Recipe) -> Path:
    test = Path(recipe.data.test or "")
    if not (test / FEATURES).is_file():
        raise ValueError(f"{run}: expected FOLDER, for the run had no test folder of its own")
    return test
