"""Sentences that go with the plan's tables: what to expect, and how far it can be trusted."""

from collections.abc import Sequence

from thinwire.plan.prediction import Prediction
from thinwire.plan.profile import Profile
from thinwire.plan.setting import Setting
from thinwire.plan.time_to_target import TimesToTarget
from thinwire.plan.units import rate_text


def about_setting(setting: Setting) -> str:
    """Return one line about the model, the link and the machines."""
    profile, network = setting.profile, setting.network
    link = network.outer
    nodes = f", {network.per_node} workers a machine" if network.per_node > 1 else ""
    return (
        f"{profile.name}: {profile.values:,} parameters in {len(profile.buckets)} buckets; link "
        f"{rate_text(link.bandwidth)} of payload, start-up {1e6 * link.latency:.0f} us{nodes}"
    )


def about_profile(profile: Profile) -> list[str]:
    """Return what was measured of a machine, in a few lines."""
    times = profile.compute
    lines = [f"{profile.values:,} parameters, {profile.workers} workers measured together"]
    for size, seconds in zip(times.sizes, times.seconds, strict=True):
        each = 1e6 * seconds / size
        lines.append(f"  {size:6} samples {1e3 * seconds:9.2f} ms {each:9.1f} us each")
    sign = profile.codes["sign"]
    whole = {"quantise": sign.encode, "add": sign.add, "decode": sign.decode}
    whole["post-process"] = profile.post
    parts = ", ".join(f"{name} {1e3 * t * profile.values:.2f} ms" for name, t in whole.items())
    lines.append(f"  {parts}, overhead {1e3 * sign.overhead:.2f} ms")
    if profile.link is None:
        lines.append("  no network measured: one worker alone (--workers K measures it)")
    else:
        link = profile.link
        lines.append(
            f"  network {rate_text(link.bandwidth)}, start-up {1e6 * link.latency:.0f} us, "
            f"waiting in a step {1e6 * link.waiting:.0f} us"
        )
    return lines


def expectation(setting: Setting, prediction: Prediction) -> str | None:
    """Return what to expect of the fewest machines that make a network, and of the best number.

    Returns:
        Two sentences; None if no number of workers that was asked for fills several machines.
    """
    per_node = setting.network.per_node
    counts = [k for k in prediction.workers if k > per_node and k % per_node == 0]
    tried = [(k, *found) for k in counts if (found := prediction.fastest(k)) is not None]
    if not tried:
        return None
    few, method, step = tried[0]
    best, fastest, best_step = max(tried, key=lambda one: one[2].samples_per_second)
    gain, most = prediction.speed_up(step), prediction.speed_up(best_step)
    first = (
        f"With {_machines(setting, few)} at {_link(setting)} and minibatch "
        f"{prediction.minibatch:,} expect {step.samples_per_second:,.0f} samples/s from "
        f"{method.name}, {gain:.2f} times the speed of one worker alone."
    )
    if most <= 1:
        return f"{first} No number of workers that was tried is faster than one."
    if best == few:
        return f"{first} No other number of workers that was tried is faster."
    return f"{first} The most is {most:.2f} times, from {fastest.name} with {best:,} workers."


def efficiency_warning(predictions: Sequence[Prediction]) -> str | None:
    """Return a warning about efficiencies over 100 per cent, which no real machine has.

    Returns:
        One sentence about the largest; None if all are at most 100 per cent as tables round them.
    """
    found = [
        (prediction.speed_up(step) / workers, method.name, workers, prediction.minibatch)
        for prediction in predictions
        for method in prediction.methods
        for workers, step in prediction.made(method)
    ]
    efficiency, name, workers, minibatch = max(found, default=(0.0, "", 0, 0))
    if round(100 * efficiency) <= 100:
        return None
    return (
        f"Warning: {name} on {workers:,} workers at minibatch {minibatch:,} is predicted to be "
        f"{100 * efficiency:.0f} % efficient. More than 100 % usually means that other programs "
        "disturbed the calibration; repeat `thinwire plan --calibrate` on a quiet machine."
    )


def about_convergence(times: TimesToTarget) -> list[str]:
    """Return what the times to a goal rest on, and which runs never got there."""
    lines, fitted = [], times.fitted
    for name, law in fitted.laws.items():
        sizes = f"{law.smallest:,}..{law.largest:,}"
        if law.smallest == law.largest:
            lines.append(f"{name}: runs of minibatch {law.smallest:,} only; no other size is tried")
        else:
            lines.append(
                f"{name}: {law.least_samples:,.0f} samples + {law.least_steps:,.0f} N, measured at "
                f"N = {sizes}, within {100 * law.error:.0f} %"
            )
    if times.borrowed:
        lines.append("* no runs of its own: converges as the method it is made of was measured to")
    for name, job in fitted.jobs.items():
        by = "by every worker" if job.replicated else "shared out"
        lines.append(
            f"{name}: an iteration is {job.gradients:.1f} gradients and {job.losses:.1f} losses of "
            f"{job.samples:,.0f} samples; {job.products:.1f} products and {job.candidates:.1f} "
            f"losses of {job.batch:,.0f}, {by}"
        )
    for name, labels in fitted.failed.items():
        lines.append(f"{name}: never reached the target: {', '.join(labels)}")
    return lines


def _machines(setting: Setting, workers: int) -> str:
    per_node = setting.network.per_node
    if setting.shared:
        return f"{workers:,} workers that share this machine's processors"
    return f"{workers // per_node:,} machines" + (f" of {per_node} workers" if per_node > 1 else "")


def _link(setting: Setting) -> str:
    if setting.line_rate is None:
        return f"{rate_text(setting.network.outer.bandwidth)} (as measured)"
    return rate_text(setting.line_rate)
