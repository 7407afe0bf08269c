"""Pure statistics of drift: counts in, numbers out.

NumPy and `scipy.special` are all this package knows. It opens nothing, logs nothing, reads no clock and draws no
random number of its own. The reference fixes the cells (`bins`), a window is integer counts on them (`profile`), and
every detector compares two profiles for all columns in one call (`detector`). Each file of detectors registers itself:
importing this package imports every file beside it, and no list anywhere repeats their names.
"""

import importlib
import pkgutil

from detectors.bins import Bins
from detectors.columns import Kind
from detectors.detector import REGISTRY, Detector, Pair, Score
from detectors.profile import Profile

for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")

__all__ = ["REGISTRY", "Bins", "Detector", "Kind", "Pair", "Profile", "Score"]
