"""A corpus of human speech from the Czech voices of the game Fish Fillets NG, packaged by Debian.

Nothing of it comes with thinwire: sound, texts and labels are made at the user's machine, of two
packages under the GNU General Public License, version 2.
"""

from thinwire.speech.fillets.build import Settings, build

__all__ = ["Settings", "build"]
