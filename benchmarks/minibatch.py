"""Iterations to 4 % and 2 % training error against the curvature minibatch (H Figure 3, right).

    make bench-minibatch

Every method on 784-400-10, one seed a point, its default settings with Kronecker factors; and
Gauss-Newton and Bi-CG-STAB without a preconditioner, as H has them.
"""

from matplotlib import pyplot as plt

from benchmarks.hessian_free_runs import RESULTS, reached, run_all
from thinwire.report.style import figure_style, plain_ticks, to_svg

SIZES = (256, 1024, 4096, 8192)
OUT = RESULTS.parents[1] / "docs" / "results"
COLOURS = {
    "gauss-newton": "#0072b2",
    "bicgstab": "#d55e00",
    "hybrid": "#009e73",
    "cg": "#a6761d",
}
MOST = 16  # iterations after which a run gives up


def specs() -> dict[str, dict[str, object]]:
    """Name of the run -> what to run."""
    lines = [(method, "auto") for method in COLOURS]
    lines += [("gauss-newton", "none"), ("bicgstab", "none")]
    return {
        f"{method}, {preconditioner}, {size}": {
            "method": method,
            "preconditioner": preconditioner,
            "curvature_batch": size,
            "iterations": MOST,
            "hidden": [400],
            "seed": 0,
        }
        for method, preconditioner in lines
        for size in SIZES
    }


def main() -> None:
    """Run what is missing, print the table, draw the figure."""
    runs = run_all("minibatch", specs())
    names = list(dict.fromkeys(key.rpartition(", ")[0] for key in runs))
    for target in (4, 2):
        print(f"\niterations to {target} % training error, at most {MOST}")
        print("| method, preconditioner | " + " | ".join(map(str, SIZES)) + " |")
        for name in names:
            cells = [reached([runs[f"{name}, {size}"]], target) for size in SIZES]
            print(f"| {name} | " + " | ".join(cells) + " |")
    with figure_style("minibatch"):
        figure, panels = plt.subplots(1, 2, figsize=(11, 4.4), sharey=True, layout="constrained")
        for axes, target in zip(panels, (4, 2), strict=True):
            for name in names:
                method, preconditioner = name.split(", ")
                points = [
                    (size, runs[f"{name}, {size}"]["reach"].get(str(target), [None])[0])
                    for size in SIZES
                ]
                points = [(x, y) for x, y in points if y is not None]
                dashed = preconditioner == "none"
                axes.plot(
                    [x for x, _ in points],
                    [y for _, y in points],
                    marker="o",
                    linestyle="--" if dashed else "-",
                    color=COLOURS[method],
                    label=f"{method}, no preconditioner" if dashed else method,
                )
            axes.set_xscale("log", base=2)
            axes.set_xticks(SIZES, map(str, SIZES))
            axes.set(xlabel="curvature minibatch", title=f"to {target} % training error")
        panels[0].set_ylabel("iterations")
        panels[0].legend(fontsize=8.5)
        plain_ticks(panels[0], "y")
        about = "Iterations to a training error against the curvature minibatch, by method."
        (OUT / "minibatch.svg").write_text(to_svg(figure, about) + "\n", encoding="utf-8")
        figure.savefig(OUT / "minibatch.png", dpi=110, facecolor="white")


if __name__ == "__main__":
    main()
