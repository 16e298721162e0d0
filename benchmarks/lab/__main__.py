"""``python -m benchmarks.lab``: up, run, down, status."""

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.lab.build import down, find, up
from benchmarks.lab.counters import Counters
from benchmarks.lab.launch import Run, run
from benchmarks.lab.network import Network
from benchmarks.lab.rate import parse_rate, rate_text
from benchmarks.lab.system import LabError

USER_ERROR = 2


def main(words: Sequence[str] | None = None) -> int:
    """Do what the arguments say; the exit status."""
    arguments = _parser().parse_args(words)
    try:
        return int(arguments.do(arguments))
    except (LabError, ValueError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        return 130


def _up(arguments: argparse.Namespace) -> int:
    network = Network(arguments.hosts, parse_rate(arguments.rate), arguments.name)
    up(network)
    print(f"{network.hosts} hosts, {rate_text(network.rate)}, {network.address(0)} and following")
    return 0


def _run(arguments: argparse.Namespace) -> int:
    command = [word for i, word in enumerate(arguments.command) if i or word != "--"]
    if not command:
        raise ValueError("run: expected a command after --, such as: run -- train.py --epochs 3")
    result = run(find(arguments.name), command, say=lambda line: print(line, flush=True))
    _show(result)
    if result.failed is not None:
        print(f"lab: host{result.failed} failed with status {result.code}", file=sys.stderr)
    return result.code


def _down(arguments: argparse.Namespace) -> int:
    print("removed" if down(arguments.name) else "nothing to remove")
    return 0


def _status(arguments: argparse.Namespace) -> int:
    network = find(arguments.name)
    print(f"{network.hosts} hosts, {rate_text(network.rate)}")
    return 0


def _show(result: Run) -> None:
    """What went over every wire."""
    table = Table(title=f"bytes at the interfaces, {result.seconds:.1f} s")
    for column in ("host", "sent", "received", "packets sent", "packets received"):
        table.add_column(column, justify="right")
    for k, counters in enumerate(result.traffic):
        table.add_row(f"host{k}", *_cells(counters))
    Console().print(table)


def _cells(counters: Counters) -> list[str]:
    numbers = (counters.tx_bytes, counters.rx_bytes, counters.tx_packets, counters.rx_packets)
    return [f"{number:,}" for number in numbers]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lab")
    actions = parser.add_subparsers(required=True)
    build = actions.add_parser("up", help="build hosts and a switch")
    build.add_argument("--hosts", type=int, default=4)
    build.add_argument("--rate", default="100mbit", help="such as 100mbit, 1gbit or none")
    build.set_defaults(do=_up)
    start = actions.add_parser("run", help="run a command on every host, one torchrun node each")
    start.set_defaults(do=_run)
    actions.add_parser("status", help="what stands").set_defaults(do=_status)
    actions.add_parser("down", help="remove it all, also after a crash").set_defaults(do=_down)
    for action in actions.choices.values():
        action.add_argument("--name", default=Network.name, help="of the laboratory")
    start.add_argument(
        "command", nargs=argparse.REMAINDER, help="-- SCRIPT.py, -m MODULE or PROGRAM"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
