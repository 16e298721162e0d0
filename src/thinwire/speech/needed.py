"""Packages of the extra ``thinwire[speech]``, which come into play only where they are used."""

from thinwire.needed import MissingPackageError, needed

__all__ = ["MissingPackageError", "needed"]
