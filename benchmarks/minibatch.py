"""Iterations to 4 % and 2 % training error against the curvature minibatch (H Figure 3, right).

    make bench-minibatch

Every method on 784-400-10, one seed a point, its default settings with Kronecker factors. Add
``(method, "none")`` to the lines for runs without a preconditioner, as H has them.
"""

from benchmarks.hessian_free_runs import reached, run_all

SIZES = (256, 1024, 4096, 8192)
METHODS = ("gauss-newton", "bicgstab", "hybrid", "cg")
MOST = 16  # iterations after which a run gives up


def specs() -> dict[str, dict[str, object]]:
    """Name of the run -> what to run."""
    lines = [(method, "auto") for method in METHODS]
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
    """Run what is missing, print the table; ``make figures`` draws it."""
    runs = run_all("minibatch", specs())
    names = list(dict.fromkeys(key.rpartition(", ")[0] for key in runs))
    for target in (4, 2):
        print(f"\niterations to {target} % training error, at most {MOST}")
        print("| method, preconditioner | " + " | ".join(map(str, SIZES)) + " |")
        for name in names:
            cells = [reached([runs[f"{name}, {size}"]], target) for size in SIZES]
            print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
