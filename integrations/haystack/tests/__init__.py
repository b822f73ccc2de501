"""Tests of the package; Haystack is told before it is imported that it reports nothing to anybody."""

import os

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
