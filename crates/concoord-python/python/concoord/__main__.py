"""The `concoord` command, as `python -m concoord`."""

import sys

from concoord._main import main

if __name__ == "__main__":
    sys.exit(main())
