"""Networks: perceptrons, low-rank layers, input normalisation, weights, a user's own."""

from thinwire.models.factory import Loss, check_network, from_factory
from thinwire.models.lowrank import factorize, rank_for_energy
from thinwire.models.normalisation import Normalisation, NormalisedBy, fit_normalisation
from thinwire.models.perceptron import Activation, Initialisation, build_model, grow
from thinwire.models.stored import load_weights

__all__ = [
    "Activation",
    "Initialisation",
    "Loss",
    "Normalisation",
    "NormalisedBy",
    "build_model",
    "check_network",
    "factorize",
    "fit_normalisation",
    "from_factory",
    "grow",
    "load_weights",
    "rank_for_energy",
]
