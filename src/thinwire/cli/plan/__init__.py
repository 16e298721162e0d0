"""``thinwire plan``: predict speed, speed-up, efficiency and K-hat, from a measured profile."""

import itertools
from pathlib import Path

from rich.console import Console

from thinwire.cli.plan.answers import Answers, make_answers
from thinwire.cli.plan.fields import PlanFields
from thinwire.cli.plan.prediction import Prediction, make_prediction, planned_methods
from thinwire.cli.plan.runs import Fitted, load_fitted
from thinwire.cli.plan.tables import all_tables, target_table
from thinwire.cli.usage import UsageError, parse, user_errors
from thinwire.plan import read_profile
from thinwire.plan.methods import Setting
from thinwire.plan.units import rate_text

LEGEND = """\
DB: half-batch double buffering; MP2: two-way model parallelism. compute, post, upd: S's
T_frm, T_post, T_upd; rest: what they do not explain; hidden: while something else was under
way. K-hat: where computing and wire take the same time (eq. 4); "fixed": the wire takes less
than the fixed cost, which is the limit (S 2.3)."""
SWITCHES = ("--calibrate", "--shared")


def run(args: list[str]) -> int:
    """Calibrate or plan; returns the exit code."""
    fields = parse(PlanFields(), with_switches(args), prog="thinwire plan")
    if fields.calibrate:
        from thinwire.cli.plan.calibration import run_calibration

        return run_calibration(fields, args)
    if not fields.profile.is_file():
        raise UsageError(
            f"{fields.profile}: no such profile; `thinwire plan --calibrate` makes one"
        )
    with user_errors():
        setting = fields.setting(read_profile(fields.profile))
        workers, minibatches = fields.worker_counts, fields.minibatches
        target = fields.target / 100
        fitted = load_fitted(fields.fit, target, fields.metric) if fields.fit else None
        methods = planned_methods(fields.model_parallel)
        predictions = [make_prediction(setting, methods, n, workers) for n in minibatches]
        answers = None
        if fitted is not None:
            answers = make_answers(setting, methods, fitted, workers)
        figures = _figures(fields, predictions, answers)
        for path, svg in figures.items():
            path.write_text(svg + "\n", encoding="utf-8")

    console = Console()
    console.print(_about(setting), soft_wrap=True)
    for table in all_tables(predictions, setting):
        console.print(table)
    console.print(LEGEND, highlight=False)
    if fitted is not None and answers is not None:
        console.print(target_table(answers, fields.target, fields.metric))
        for line in _remarks(fitted, answers):
            console.print(line, soft_wrap=True, highlight=False)
    console.print(f"wrote {', '.join(map(str, figures))}", soft_wrap=True)
    return 0


def with_switches(args: list[str]) -> list[str]:
    """A bare switch means True.

    >>> with_switches(["--calibrate", "--shared", "False"])
    ['--calibrate', 'True', '--shared', 'False']
    """
    told = []
    for arg, following in itertools.pairwise([*args, ""]):
        told.append(arg)
        if arg in SWITCHES and following not in ("True", "False"):
            told.append("True")
    return told


def _figures(
    fields: PlanFields, predictions: list[Prediction], answers: Answers | None
) -> dict[Path, str]:
    """The figures by file: speed for each minibatch size, and time to the target."""
    from thinwire.cli.plan.figure import speed_svg, target_svg

    out = fields.out
    figures = {}
    for prediction in predictions:
        more = f"-{prediction.minibatch}" if len(predictions) > 1 else ""
        figures[out.with_name(f"{out.stem}{more}{out.suffix}")] = speed_svg(
            prediction, {m.name: k for m, k in prediction.k_hats.items() if k is not None}
        )
    if answers is not None:
        path = out.with_name(f"{out.stem}-target{out.suffix}")
        figures[path] = target_svg(answers, fields.target, fields.metric)
    return figures


def _about(setting: Setting) -> str:
    profile, network = setting.profile, setting.network
    link = network.outer
    nodes = f", {network.per_node} workers a machine" if network.per_node > 1 else ""
    return (
        f"{profile.name}: {profile.values:,} parameters in {len(profile.buckets)} buckets; link "
        f"{rate_text(link.bandwidth)} of payload, start-up {1e6 * link.latency:.0f} us{nodes}"
    )


def _remarks(fitted: Fitted, answers: Answers) -> list[str]:
    """How far the answers can be trusted."""
    lines = []
    for name, law in answers.laws.items():
        sizes = f"{law.smallest:,}..{law.largest:,}"
        if law.smallest == law.largest:
            lines.append(f"{name}: runs of minibatch {law.smallest:,} only; no other size is tried")
        else:
            lines.append(
                f"{name}: {law.least_samples:,.0f} samples + {law.least_steps:,.0f} N, measured at "
                f"N = {sizes}, within {100 * law.error:.0f} %"
            )
    if answers.borrowed:
        lines.append("* no runs of its own: converges as the method it is made of was measured to")
    for name, job in answers.jobs.items():
        by = "by every worker" if job.replicated else "shared out"
        lines.append(
            f"{name}: an iteration is {job.gradients:.1f} gradients and {job.losses:.1f} losses of "
            f"{job.samples:,.0f} samples; {job.products:.1f} products and {job.candidates:.1f} "
            f"losses of {job.batch:,.0f}, {by}"
        )
    for name, labels in fitted.failed.items():
        lines.append(f"{name}: never reached the target: {', '.join(labels)}")
    return lines
