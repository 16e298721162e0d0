"""``python -m tests.fuzz``: read many mutated inputs; see --help."""

import argparse
import sys
import time

from tests.fuzz.run import fuzz, reproduce

SHARES = {"idx": 0.2, "kaldi": 0.1, "recipe": 0.2, "manifest": 0.15, "events": 0.15, "profile": 0.2}


def main() -> int:
    """Fuzz, or repeat one input; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="inputs over all families")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--family", choices=SHARES, help="this one alone")
    parser.add_argument("--number", type=int, help="with --family: repeat one input")
    given = parser.parse_args()
    if given.number is not None:
        print(reproduce(given.family or "idx", given.seed, given.number))
        return 0
    shares = SHARES if given.family is None else {given.family: 1.0}
    counts = {name: max(1, round(given.count * share)) for name, share in shares.items()}
    begun = time.monotonic()
    total = fuzz(counts, given.seed, given.processes)
    print("family      inputs    read refused  failed  seconds  peak MiB")
    for name, found in total.items():
        read, refused = found.outcomes["read"], found.outcomes["refused"]
        numbers = [counts[name], read, refused, counts[name] - read - refused]
        row = " ".join(f"{number:7}" for number in numbers)
        print(f"{name:10} {row} {found.seconds:8.0f} {found.peak >> 20:9}")
    failures = [line for found in total.values() for line in found.failures]
    print(
        f"{sum(counts.values())} inputs, {len(failures)} failures, {time.monotonic() - begun:.0f} s"
    )
    for line in failures[:40]:
        print(line)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
