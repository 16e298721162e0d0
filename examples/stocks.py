"""A table under `thinwire train`: the S&P 500 from six of its shares. Needs `thinwire[tables]`.

python stocks.py                 # writes stocks.csv
thinwire train stocks.toml

The prices are real, 1990 to 2018 by months; matplotlib brings the file along.
"""

import csv
import math
from itertools import pairwise
from pathlib import Path

from matplotlib import cbook

SHARES, INDEX = ("IBM", "AAPL", "MSFT", "XRX", "AMZN", "ADBE"), "^GSPC"


def main() -> None:
    with cbook.get_sample_data("Stocks.csv") as file:
        lines = [line for line in file if not line.startswith("#")]
    names = (*SHARES, INDEX)
    rows = [row for row in csv.DictReader(lines) if all(row[name] for name in names)]
    returns = [  # of each month, in per cent
        [100 * math.log(float(now[name]) / float(before[name])) for name in names]
        for before, now in pairwise(rows)
    ]
    with Path("stocks.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*SHARES, "SP500"])
        writer.writerows(returns)
    print(f"{len(returns)} months in stocks.csv")


if __name__ == "__main__":
    main()
