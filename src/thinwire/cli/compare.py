"""``thinwire compare RECIPE...``: train several recipes, one after another, and report on all."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from thinwire.cli import train
from thinwire.cli.usage import UsageError, user_errors
from thinwire.report import COUNTING_RULES, load_runs, price_tables, write_page
from thinwire.train import Recipe, detect_workers, foreign_fields, recipe_names

USAGE = """usage: thinwire compare RECIPE... [--out DIR] [--workers K] [--seed N] [--data PATH]
                        [--resume auto|never] [--FIELD VALUE ...]

Trains each recipe in its own run folder DIR/RECIPE (runs/compare by default), as `thinwire train`
does: a run that was stopped goes on, a finished one is not trained again. Then writes
DIR/report.html. A field only reaches the recipes whose algorithm reads it.

recipes: {recipes}; or paths to .toml files
`thinwire train RECIPE --help` lists every field.

How it is counted:
{rules}"""
RULES = "\n".join(f"- {rule}" for rule in COUNTING_RULES)

Flags = list[list[str]]  # each a flag and its values


def run(args: list[str]) -> int:
    """Train and compare; returns the exit code."""
    if not args or {"-h", "--help"} & set(args):
        print(USAGE.format(recipes=", ".join(recipe_names()), rules=RULES))
        return 0
    recipes, given = split_arguments(args)
    folder, shared = _take_out(given)
    with user_errors():
        launched = detect_workers() is not None
    if launched:
        raise UsageError(
            "it starts its own workers (--workers K); under torchrun or Slurm, train each recipe "
            "and give the run folders to `thinwire report`"
        )
    plans = arguments_of(recipes, shared)
    folders = [folder / name for name, _ in plans]
    for (_, arguments), where in zip(plans, folders, strict=True):
        code = train.run([*arguments, "--out", str(where)])
        if code:
            return code
    with user_errors():
        runs = load_runs(folders)
        write_page(runs, folder / "report.html")
    console = Console()
    console.print(price_tables(runs))
    console.print(RULES, highlight=False, markup=False, soft_wrap=True)
    console.print(f"wrote {folder / 'report.html'}", soft_wrap=True, markup=False)
    return 0


def split_arguments(args: Sequence[str]) -> tuple[list[str], Flags]:
    """Recipes, then flags with their values.

    >>> split_arguments(["a", "b", "--seed", "1", "--model.hidden", "3", "4"])
    (['a', 'b'], [['--seed', '1'], ['--model.hidden', '3', '4']])
    """
    recipes: list[str] = []
    given: Flags = []
    for arg in args:
        if arg.startswith("--"):
            given.append([arg])
        elif given:
            given[-1].append(arg)
        else:
            recipes.append(arg)
    return recipes, given


def arguments_of(recipes: Sequence[str], given: Flags) -> list[tuple[str, list[str]]]:
    """What ``thinwire train`` is to be told: (short name, arguments) for each recipe.

    Raises:
        UsageError: no recipe, two of one name, or a flag that no recipe or not all values fit.
    """
    if not recipes:
        raise UsageError("expected at least one recipe before the flags, such as mnist-sgd")
    known = [train.recipe_of(recipe, []) for recipe in recipes]
    names = [name for name, _ in known]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"{twice} is named twice: runs are told apart by their recipes' names")
    plans = []
    for recipe, (name, fields) in zip(recipes, known, strict=True):
        others = [other for _, other in known]
        flags = [part for flag in given if _concerns(flag, fields, others) for part in flag]
        train.recipe_of(recipe, flags)  # mistakes are found before anything is trained
        plans.append((name, [recipe, *flags]))
    return plans


def _concerns(flag: list[str], recipe: Recipe, others: Sequence[Recipe]) -> bool:
    """Whether a recipe's algorithm reads what a flag sets; one that none reads goes to all."""
    section = flag[0].removeprefix("--").split("=")[0].split(".")[0].replace("-", "_")

    def reads(one: Recipe) -> bool:
        return section not in foreign_fields(one.algorithm)

    return reads(recipe) or not any(map(reads, others))


def _take_out(given: Flags) -> tuple[Path, Flags]:
    """The report's folder, and the other flags."""
    folder, rest = Path("runs") / "compare", []
    for flag in given:
        parts = [*flag[0].split("=", 1), *flag[1:]]
        if parts[0] == "--resume" and parts[1:] not in (["auto"], ["never"]):
            raise UsageError("--resume: expected auto or never: there are several runs")
        if parts[0] != "--out":
            rest.append(flag)
        elif len(parts) != 2:
            raise UsageError("--out: expected one folder")
        else:
            folder = Path(parts[1])
    return folder, rest
