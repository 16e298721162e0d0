"""The command line of every benchmark: measure what is missing, print the tables."""

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks import lab, store
from benchmarks.runner import Benchmark, SettingError, missing, run, seconds_left


def _setting(pair: str) -> tuple[str, Any]:
    """Read NAME=VALUE: a value as JSON has it, or a text.

    >>> _setting("repeats=1"), _setting("values=64k")
    (('repeats', 1), ('values', '64k'))
    """
    name, _, value = pair.partition("=")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def main(benchmark: Benchmark, words: Sequence[str] | None = None) -> int:
    """Be the command line of a benchmark; return the exit status."""
    parser = argparse.ArgumentParser(prog=f"python -m {benchmark.module}")
    parser.add_argument("--show", action="store_true", help="only print what is stored")
    parser.add_argument("--again", action="store_true", help="repeat what is stored")
    parser.add_argument("--only", nargs="+", default=[], metavar="PART", help="of keys of cells")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="settings")
    arguments = parser.parse_args(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # store what is done, as Ctrl-C does
    given = dict(map(_setting, arguments.set))
    try:
        if not arguments.show:
            run(benchmark, arguments.only, arguments.again, given)
    except (lab.LabError, SettingError) as error:
        print(f"{benchmark.module}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    results = store.read(benchmark.name)
    for table in benchmark.tables(results):
        print(table.markdown(), end="\n\n")
    cells = benchmark.cells(results)
    todo = missing(cells, results)
    minutes = seconds_left(benchmark, todo, results) / 60
    print(f"{len(todo)} of {len(cells)} cells missing, about {minutes:.0f} minutes")
    if benchmark.finish is not None and not arguments.show:
        benchmark.finish(results)
    return 0
