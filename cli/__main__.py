"""`python -m llink.cli` is `llink`."""

import sys

from . import main

sys.exit(main())
