"""The cells of a column, by number: which are special, and where the regular ones lie. The same in every column.

Four are special: missing, invalid (present, but not of the column's kind), and the two outside cells. A numeric column
has BELOW and ABOVE the range of the reference; a categorical column has UNSEEN in BELOW's place and RARE, the
reference's own infrequent words, in ABOVE's. Between them lie up to 252 regular cells.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

N_CELLS: Final = 256
MISSING: Final = 0
INVALID: Final = 1
BELOW: Final = 2
UNSEEN: Final = 2
FIRST: Final = 3
ABOVE: Final = 255
RARE: Final = 255
N_REGULAR: Final = ABOVE - FIRST

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Cells = NDArray[np.uint8]
Places = NDArray[np.intp]
Bools = NDArray[np.bool_]
