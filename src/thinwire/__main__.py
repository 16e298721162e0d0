"""``python -m thinwire``: the same as the ``thinwire`` command."""

import sys

from thinwire.cli import main

if __name__ == "__main__":
    sys.exit(main())
