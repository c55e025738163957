"""``python -m hk_tick_collector`` is ``hk-tick-collector``."""

import sys

from hk_tick_collector.main import main

sys.exit(main())
