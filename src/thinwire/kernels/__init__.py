"""The hot loops: one contract, several back ends.

``schemas`` declares the operators, ``reference`` defines them in plain torch (the oracle, and what
runs where nothing faster is built), ``native`` runs them in C++ on the CPU. Call the operators as
``torch.ops.thinwire.sign_encode`` and so on; importing this package registers them.
"""

from thinwire.kernels import native, reference, schemas

schemas.register(reference.KERNELS, "CompositeExplicitAutograd")
if native.available():
    schemas.register(native.KERNELS, "CPU")


def active() -> str:
    """The back end that serves CPU tensors: ``"native (avx512)"`` or ``"reference"``."""
    sets = native.instruction_sets()
    return f"native ({sets[-1]})" if sets else "reference"


__all__ = ["active", "native", "reference", "schemas"]
