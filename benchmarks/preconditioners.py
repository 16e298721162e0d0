"""What the preconditioner and the codes do: iterations and passes to a training error.

    make bench-preconditioners

784-400-10 on MNIST, curvature batch 4096, seeds 0 and 1; codes with seed 0.
"""

from benchmarks.hessian_free_runs import reached, run_all

METHODS = ("gauss-newton", "bicgstab", "hybrid", "cg")
PRECONDITIONERS = ("kronecker", "diagonal", "none")
SEEDS = (0, 1)
CODES = ("float32", "bfloat16", "8-bit", "4-bit", "rotated", "sign")


def specs() -> dict[str, dict[str, object]]:
    """Name of the run -> what to run."""
    common = {"hidden": [400], "curvature_batch": 4096}
    found: dict[str, dict[str, object]] = {}
    for method in METHODS:
        for preconditioner in PRECONDITIONERS:
            for seed in SEEDS:
                found[f"{method}, {preconditioner}, {seed}"] = {
                    **common,
                    "method": method,
                    "preconditioner": preconditioner,
                    "seed": seed,
                    "iterations": 12 if preconditioner == "kronecker" else 18,
                }
    for option in ("gradient_code", "product_code"):
        for code in CODES:
            found[f"{option}, {code}"] = {
                **common,
                option: code,
                "curvature": "sharded",
                "seed": 0,
                "iterations": 12,
            }
    return found


def main() -> None:
    """Run what is missing and print the tables."""
    runs = run_all("preconditioners", specs())
    print(
        "\n| method | preconditioner | its to 4 % | 2 % | 1 % | passes to 2 % | best test error |"
    )
    for method in METHODS:
        for preconditioner in PRECONDITIONERS:
            some = [runs[f"{method}, {preconditioner}, {seed}"] for seed in SEEDS]
            tests = " / ".join(f"{run['best_test']:.2f}" for run in some)
            cells = [reached(some, 4), reached(some, 2), reached(some, 1), reached(some, 2, 1)]
            print(f"| `{method}` | {preconditioner} | " + " | ".join(cells) + f" | {tests} % |")
    print("\n| option | code | its to 4 % | 2 % | 1 % | best test error |")
    for option in ("gradient_code", "product_code"):
        for code in CODES:
            one = runs[f"{option}, {code}"]
            cells = [reached([one], target) for target in (4, 2, 1)]
            print(
                f"| `{option}` | {code} | " + " | ".join(cells) + f" | {one['best_test']:.2f} % |"
            )


if __name__ == "__main__":
    main()
