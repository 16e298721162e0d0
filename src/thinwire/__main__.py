"""``python -m thinwire``, and what launched workers run, by its path.

So nothing is imported before a worker can be interrupted: until it trains it has nothing to save,
and Ctrl-C ends it then and there.
"""

import os
import signal
import sys

if __name__ == "__main__":
    if "THINWIRE_LAUNCHER" in os.environ:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    from thinwire.cli import main

    sys.exit(main())
