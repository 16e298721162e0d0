"""docs/results: every figure as PNG, and one page of all results, the rules of measuring on top.

    python -m benchmarks.page [--out docs/results]

What there are no results of is left out, with a line that says which command makes them.
"""

import argparse
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import jinja2

from benchmarks import store
from benchmarks.draw import Drawing, save
from benchmarks.exchange import figures as exchange_figures
from benchmarks.exchange import growth, rows
from benchmarks.hessian_free import figures as hessian_free_figures
from benchmarks.hessian_free import methods
from benchmarks.planner import figures as planner_figures
from benchmarks.planner import paper
from benchmarks.store import Results
from benchmarks.tables import Table
from benchmarks.training import figures as training_figures
from benchmarks.training import paper_tables, speeds
from benchmarks.training import rows as training_rows
from benchmarks.training.contenders import SEEDS
from thinwire.report.style import figure_style

TEMPLATE = Path(__file__).parent / "page.html"


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        title: its heading.
        results: the name of those it is made from; "" for what is computed.
        target: of make, that measures it.
        note: what to know when reading it.
        figures: by name, how each is drawn; None where results are missing.
        tables: how the tables below them are made.
        others: targets of the figures that another one measures, by name.
    """

    title: str
    results: str
    target: str
    note: str
    figures: Mapping[str, Callable[[Results], Drawing | None]] = field(default_factory=dict)
    tables: Callable[[Results], list[Table]] = lambda _: []
    others: Mapping[str, str] = field(default_factory=dict)


RULES = (
    "Same data order and seeds: every contender sees the same minibatches in the same order, and "
    f"what depends on chance is repeated with seeds {', '.join(map(str, SEEDS))}.",
    "Same tuning effort: four points of a grid for every contender, the same points for all of a "
    "family, then at most three changes of what only it has (they are listed below); the best "
    "after a fixed number of steps is taken.",
    "Ratios are within one run, in which contenders take turns; never between runs.",
    "Figures are medians of at least three, with the smallest and largest in brackets; the tables "
    "of S have means of three seeds, and what was trained by recipes shows every seed.",
    "No cherry-picking: what was measured is shown, errors and missed targets included.",
    "Bold is the best of its column, whoever that is: where a peer wins, as PowerSGD can in bytes "
    "and SGD against Hessian-free methods in seconds on a fast network, the same table says so.",
    "Hosts are network namespaces of one machine whose processors they share: real hosts would "
    "compute faster while the wire stays as thin. Machine, versions, date, command and load are in "
    "the JSON files.",
)


def speed_tables(results: Results) -> list[Table]:
    """Return S Tables 4 and 5 as measured here, and as predicted from the paper's costs."""
    return [*speeds.tables(results), *paper.tables()]


SECTIONS = (
    Section(
        "One exchange",
        "exchange",
        "bench-exchange",
        "Times faster than dense float32, and the limit: what the bytes would allow.",
        {"exchange_speedup": exchange_figures.speedups, "exchange_sizes": exchange_figures.sizes},
        rows.page_tables,
    ),
    Section(
        "Training to a target",
        "training",
        "bench-training",
        "The same script with the exchange swapped. Steps to the target on an open wire, three "
        "seeds; seconds and bytes a step on the throttled one; multiplied. Hessian-free "
        "methods went to the target on every wire.",
        {"race": training_figures.race, "training": training_figures.training},
        training_rows.tables,
    ),
    Section(
        "Both families, method by method (H Figure 1)",
        "methods",
        "bench-methods",
        "H's perceptron, 4 workers on loopback, a fast network, which costs SGD least. Seeds "
        "side by side; a dash is an error not reached, bold the best median over seeds.",
        {"methods": hessian_free_figures.methods},
        methods.tables,
    ),
    Section(
        "What a Hessian-free iteration consists of (H Figure 2)",
        "scaling",
        "bench-scaling",
        "H ran 32 nodes; here hosts share the processors of one machine. Up to 1024 workers by "
        "the planner, for a calibrated machine (make bench-profile).",
        {"scaling": hessian_free_figures.scaling, "iteration": planner_figures.iteration},
        others={"iteration": "bench-profile"},
    ),
    Section(
        "The curvature minibatch (H Figure 3)",
        "minibatch",
        "bench-minibatch",
        "One seed a point.",
        {"minibatch": hessian_free_figures.minibatch},
    ),
    Section(
        "How many nodes pay (S Figure 1)",
        "",
        "bench-profile",
        "T_calc and T_comm of equation (3), from the paper's costs and from a calibrated "
        "machine; up to 1024 workers by the planner, which is a prediction.",
        {"optimum": planner_figures.optimum, "planned": planner_figures.planned},
    ),
    Section(
        "Quantising, double buffering, AdaGrad (S Tables 2 and 3)",
        "tables",
        "tables",
        "MNIST in place of speech; only the shape can be compared. docs/results.md has the "
        "commands.",
        {},
        paper_tables.tables,
    ),
    Section(
        "Speeds (S Tables 4 and 5)",
        "speeds",
        "bench-speeds",
        "In our units, the median over stretches of a run and quartiles: two hosts on thin "
        "wires; grids of workers on one machine. Then what is predicted from the "
        "paper's own cost measurements, in 1000 samples/s; docs/planner.md says which "
        "assumption fails where.",
        {},
        speed_tables,
    ),
    Section(
        "As workers are added",
        "growth",
        "bench-growth",
        "One worker's bytes and memory, measured on loopback, and its arithmetic alone; its "
        "bytes and its exchange up to 1024 workers as the planner has them.",
        {"growth": exchange_figures.growth},
        growth.tables,
    ),
    Section(
        "Bytes against loss",
        "frontier",
        "bench-frontier",
        "One seed a point; docs/codes.md.",
        {"frontier": training_figures.frontier},
    ),
)


def draw(section: Section, out: Path) -> dict[str, str]:
    """Draw a section's figures, those that there are results of; return what they show by name."""
    drawn: dict[str, str] = {}
    for name, make in section.figures.items():
        with figure_style(name):
            drawing = make(store.read(section.results) if section.results else {})
            if drawing is None:
                target = section.others.get(name, section.target)
                print(f"{name}: left out, there are no results yet; make {target}")
            else:
                save(drawing[0], out / f"{name}.png")
                drawn[name] = drawing[1]
    return drawn


def html(drawn: Mapping[str, str]) -> str:
    """Return the page.

    Args:
        drawn: what the figures show, in words, by the names of those there are.
    """
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    tables = {s.title: s.tables(store.read(s.results) if s.results else {}) for s in SECTIONS}
    found = [s for s in SECTIONS if tables[s.title] or drawn.keys() & s.figures.keys()]
    return template.render(
        rules=RULES,
        grids=training_rows.grids(),
        sections=found,
        missing=[section for section in SECTIONS if section not in found],
        tables=tables,
        drawn=drawn,
        about=about(dict.fromkeys(s.results for s in found if s.results)),
    )


def about(names: Collection[str]) -> list[list[str]]:
    """Return for each file of results where and when it was made."""
    lines = []
    for name in names:
        results = list(store.read(name).values())
        dates = sorted(result.date[:10] for result in results if result.date)
        days = f"{dates[0]} to {dates[-1]}" if dates else "-"
        lines.append([f"{name}.jsonl", days, store.machine_words(results[-1]) if results else "-"])
    return lines


def main() -> None:
    """Draw the figures, then write the page that shows them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=store.DOCS / "results", help="a folder")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    drawn: dict[str, str] = {}
    for section in SECTIONS:
        drawn |= draw(section, out)
    (out / "index.html").write_text(html(drawn), encoding="utf-8")
    print(f"wrote {out / 'index.html'}")


if __name__ == "__main__":
    main()
