"""``python -m vitlr``."""

import sys

from vitlr.cli import main

sys.exit(main())
