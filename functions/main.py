"""The archive's face: loads only the function that FUNCTION_TARGET names.

Without FUNCTION_TARGET it loads nothing, so that a build may compile and import it.
"""

import os
import sys

from faregate.function import entry_point
from faregate.log import last_words

if target := os.environ.get("FUNCTION_TARGET"):
    sys.excepthook = last_words
    globals()[target] = entry_point(target)
