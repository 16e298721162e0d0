"""How far to trust the quadratic model: damping by the reduction ratio (Levenberg, Marquardt)."""

LEAST, MOST = 1e-6, 1e3


def after_step(damping: float, ratio: float | None, *, hesitant: bool) -> float:
    """The next lambda, from how well the model foretold the step.

        rho = (f(theta + alpha d) - f(theta)) / m(alpha d)
        rho > 3/4: lambda / 3        rho < 1/4: 2 lambda

    Args:
        damping: lambda.
        ratio: rho; None where the model promised nothing (negative curvature, -g).
        hesitant: the line search had to shorten the step, or the solver met negative curvature
            that it could not use: lambda is doubled if there is no ratio to go by.

    Returns:
        The next lambda, within [1e-6, 1e3].
    """
    if ratio is None:
        damping = 2 * damping if hesitant else damping
    elif ratio > 0.75:
        damping /= 3
    elif ratio < 0.25:
        damping *= 2
    return min(max(damping, LEAST), MOST)


def after_failure(damping: float) -> float:
    """The next lambda when no step was acceptable: 2 max(lambda, 1e-4)."""
    return min(2 * max(damping, 1e-4), MOST)
