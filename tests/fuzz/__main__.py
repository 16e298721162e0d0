"""``python -m tests.fuzz``: read many mutated inputs; see --help."""

import argparse
import sys

from tests.fuzz.run import fuzz, reproduce

SHARES = {"idx": 0.4, "recipe": 0.05, "manifest": 0.15, "events": 0.1, "profile": 0.3}


def main() -> int:
    """Fuzz, or repeat one input; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="inputs over all families")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--family", choices=SHARES, help="with --number: repeat one input")
    parser.add_argument("--number", type=int)
    given = parser.parse_args()
    if given.number is not None:
        print(reproduce(given.family or "idx", given.seed, given.number))
        return 0
    counts = {name: max(1, round(given.count * share)) for name, share in SHARES.items()}
    found, failures = fuzz(counts, given.seed, given.processes)
    for name in SHARES:
        outcomes = ", ".join(f"{n} {what}" for what, n in sorted(found[name].items()))
        print(f"{name:10} {sum(found[name].values()):7}: {outcomes}")
    for line in failures[:40]:
        print(line)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
