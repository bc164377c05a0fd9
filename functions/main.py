"""The archive's face: loads only the function that FUNCTION_TARGET names.

Without FUNCTION_TARGET it loads nothing, so that a build may compile and import it.
"""

import os

from faregate.function import entry_point

if target := os.environ.get("FUNCTION_TARGET"):
    globals()[target] = entry_point(target)
