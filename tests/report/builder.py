"""A made-up run folder, written as the trainer would."""

from pathlib import Path

from thinwire.report import EventLog

STEPS_PER_EPOCH = 10
TRAFFIC = [
    {"stage": "gradients", "collectives": 20, "messages": 60, "bytes": 900_000},
    {"stage": "values", "collectives": 20, "messages": 60, "bytes": 100_000},
]


def write_run(
    folder: Path,
    name: str = "mnist-onebit",
    epochs: int = 2,
    finish: bool = True,
    skips: int = 0,
    factor: float = 28.6,
    residual: bool = True,
    stage: str = "gradients",
    times: object = None,
) -> Path:
    with EventLog(folder / "events.jsonl") as log:
        log.write("start", schema=1, rank=0, time=1.7e9, **_identity(name), recipe={"lr": {"a": 1}})
        for step in range(1, epochs * STEPS_PER_EPOCH + 1):
            place = _place(step, factor)
            ratio = [1.2, 0.8] if residual else None
            loss = 2.0 / step
            event = {**place, **_speed(factor), "loss": loss, "error": 0.0, "times": times}
            log.write("step", **event, residual_ratio=ratio)
            if step <= skips:
                log.write("skip", step=step, worker=2, parameter="net.0.<b>weight")
            if step % STEPS_PER_EPOCH == 0:
                log.write(
                    "epoch", **place, **_scores(), params_sha256="ab", replicas_identical=True
                )
        log.write("weather", sky="blue")
        if finish:
            end = _identity(name) | _scores() | _speed(factor)
            log.write("end", **end, **_totals(epochs, factor, skips, stage), times=times)
    return folder


def _identity(name: str) -> dict:
    versions = {"thinwire": "0.1.0", "torch": "2.13"}
    return {
        "name": name,
        "method": "onebit",
        "workers": 4,
        "params": 535818,
        "seed": 0,
        "versions": versions,
    }


def _place(step: int, factor: float) -> dict:
    return {
        "step": step,
        "epoch": step / STEPS_PER_EPOCH,
        "samples": step * 256,
        "communications": step * 3,
        "bytes_sent": int(step * 3_000_000 / factor),
        "seconds": step * 0.1,
    }


def _speed(factor: float) -> dict:
    return {"compression": factor, "samples_per_second": 20000.0}


def _scores() -> dict:
    return {"train_loss": 0.1, "train_error": 0.01, "test_loss": 0.2, "test_error": 0.0203}


def _totals(epochs: int, factor: float, skips: int, stage: str) -> dict:
    steps = epochs * STEPS_PER_EPOCH
    return {
        "steps": steps,
        "samples": steps * 256,
        "communications": steps * 3,
        "bytes_sent_per_worker": int(steps * 3_000_000 / factor),
        "dense_bytes_per_worker": steps * 3_000_000,
        "compression_steady": factor + 0.5,
        "seconds": steps * 0.1,
        "params_sha256": "ab",
        "replicas_identical": True,
        "skipped_steps": skips,
        "traffic": [TRAFFIC[0] | {"stage": stage}, TRAFFIC[1]],
    }


def write_newton_run(folder: Path, name: str = "mnist-hf", iterations: int = 4) -> Path:
    """A run of outer iterations, with errors of 8, 4, 2, 1 % and every one measured exactly."""
    identity = {**_identity(name), "method": "Hessian-free, Gauss-Newton"}
    with EventLog(folder / "events.jsonl") as log:
        log.write("start", schema=1, rank=0, time=1.7e9, **identity, recipe={})
        for step in range(1, iterations + 1):
            place = {
                **_place(step, 1.0),
                "epoch": 2.5 * step,
                "communications": 2 * step,
                "scalar_communications": step,
            }
            log.write("step", **place, **_iteration(step))
            error = 0.16 / 2**step
            scores = {"train_loss": 1 / step, "train_error": error, "test_loss": 1 / step}
            log.write("epoch", **place, **scores, test_error=error + 0.01, exact=True)
        last = {"steps": iterations, "seconds": 0.4, "bytes_sent_per_worker": 12_000_000}
        counts = {"communications": 2 * iterations, "scalar_communications": iterations}
        log.write("end", **identity, **_scores(), **last, **counts, compression=None)
    return folder


def _iteration(step: int) -> dict:
    return {
        "loss": 1 / step,
        "objective": 1 / step,
        "alpha": 1.0,
        "damping": 0.01,
        "ratio": None,
        "kind": "newton",
        "outcome": "iteration limit",
        "solver_iterations": 10,
        "products": 10,
        "candidates": 8,
        "trials": 1,
        "note": "<b>" if step == 2 else "",
    }
