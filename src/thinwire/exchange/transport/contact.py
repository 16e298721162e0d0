"""Contact that breaks off: said in the words of whoever trains, not in those of the transport."""

from collections.abc import Iterator
from contextlib import contextmanager


class ContactLostError(RuntimeError):
    """Another worker no longer answers, or sent something else than what was expected."""


@contextmanager
def in_contact(rank: int) -> Iterator[None]:
    """Wait for other workers inside.

    Args:
        rank: this worker.

    Raises:
        ContactLostError: what torch.distributed does inside fails.
    """
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ContactLostError(
            f"worker {rank}: the exchange with another worker broke off. That one has failed, has "
            "ended, or takes other steps than this one: look for an error of its own first, and "
            "see that every worker takes the same number of steps with the same model. The "
            f"transport says: {reason}"
        ) from error
