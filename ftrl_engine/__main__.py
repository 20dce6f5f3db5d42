"""``python -m ftrl_engine`` is the ``ftrl`` command."""

import sys

from ftrl_engine.cli import main

sys.exit(main())
