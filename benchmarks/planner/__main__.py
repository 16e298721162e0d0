"""The planner against measurements: the paper's, and runs of one's own.

    python -m benchmarks.planner paper                  # docs/planner.md's tables, as Markdown
    python -m benchmarks.planner runs --profile P.json [--bandwidth 100Mbit/s] [--latency 200us]
                                      [--shared] RUN...  # predicted against measured steps/s,
                                                         # and what a step consists of

``--shared``: all workers ran on the machine that was calibrated, as in a laboratory of network
namespaces. In a list of runs of several networks, write ``RATE=FOLDER``, such as
``100Mbit/s=runs/w4``.
"""

import argparse
from pathlib import Path

from benchmarks.planner.paper import paper_tables
from benchmarks.planner.runs import compare_run, run_table, terms_table
from thinwire.plan import make_setting, read_profile
from thinwire.plan.units import parse_rate, parse_seconds


def main() -> None:
    """Print one of the comparisons."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("paper")
    runs = commands.add_parser("runs")
    runs.add_argument("--profile", type=Path, required=True)
    runs.add_argument("--bandwidth")
    runs.add_argument("--latency")
    runs.add_argument("--shared", action="store_true")
    runs.add_argument("runs", nargs="+", metavar="[RATE=]RUN")
    given = parser.parse_args()
    if given.command == "paper":
        print(paper_tables())
        return
    profile, latency = read_profile(given.profile), given.latency and parse_seconds(given.latency)
    rows = []
    for text in given.runs:
        rate, _, folder = text.rpartition("=")
        rate = rate or given.bandwidth
        bandwidth = parse_rate(rate) if rate else None
        setting = make_setting(profile, bandwidth=bandwidth, latency=latency, shared=given.shared)
        rows.append(compare_run(Path(folder), setting, rate or "as calibrated"))
    for table in (run_table(rows), terms_table(rows)):
        print(table.markdown(), end="\n\n")


if __name__ == "__main__":
    main()
