"""A made-up profile with round numbers (1 ms a sample, 1 024 000 values), and made-up runs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from thinwire.plan import CodeTimes, Link, Network, Profile, Setting, SubBatchTimes
from thinwire.plan.hessian_free_iteration import Job
from thinwire.report import EventLog

VALUES = 1_024_000
LINK = Link(1e6, latency=0.001)
JOB = Job(10_000, 1_000, gradients=1, losses=3, products=20, candidates=4)


def profile(**changes: Any) -> Profile:
    made = Profile(
        name="made up",
        buckets=(((1000, 1024),),),
        compute=SubBatchTimes((1, 1000), (0.001, 1.0)),
        collect=1e-9,
        post=4e-9,
        apply=1e-9,
        codes={
            "float32": CodeTimes(2e-9, 1e-9, 1e-9, 0.002),
            "sign": CodeTimes(3e-9, 1e-9, 1e-9, 0.002),
        },
        product_ratio=2.0,
        forward_ratio=0.25,
        link=LINK,
        processors=2,
        threads=1,
        workers=2,
        versions={"thinwire": "0"},
    )
    return replace(made, **changes)


def setting(link: Link = LINK, **changes: Any) -> Setting:
    return Setting(profile(), Network(link), **changes)


def write_run(
    folder: Path,
    method: str,
    minibatch: int,
    steps: int,
    curvature: str | None = None,
    metrics: list[dict[str, Any]] | None = None,
    **settings: object,
) -> Path:
    """A run that halves its error every ``steps`` updates; of ten products an iteration."""
    with EventLog(folder / "events.jsonl") as log:
        recipe: dict[str, Any] = {"minibatch": minibatch}
        more: dict[str, Any] = {}
        if curvature is not None:
            recipe = {"hessian_free": {"curvature_batch": 300, "curvature": curvature, **settings}}
            more = {"products": 10, "candidates": 4, "trials": 3}
        told = {"metrics": metrics} if metrics else {}
        log.write(
            "start",
            schema=1,
            method=method,
            workers=2,
            train_samples=6000,
            recipe=recipe,
            params=9,
            **told,
        )
        for epoch in range(1, 5):
            at = {"step": epoch * steps, "samples": epoch * steps * minibatch}
            at |= {"communications": epoch * steps * 2, "seconds": epoch * 1.0}
            alpha = {"alpha": 0.5 if epoch == 1 else 1.0} if more else {}
            log.write("step", **at, phase="steady", loss=1.0, **more, **alpha)
            log.write("epoch", **at, epoch=epoch, train_error=0.5**epoch, test_error=0.6**epoch)
        log.write("end", method=method, workers=2, steps=40, communications=80, seconds=4.0)
    return folder
