"""`python -m tests.support.sim --seed N` replays one run; `--minutes M` or `--runs N` hunts."""

from __future__ import annotations

import sys

from tests.support.sim.hunt import main

sys.exit(main())
