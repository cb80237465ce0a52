"""CT reconstruction against scikit-image, ASTRA and RTK, taking turns in one process."""

from __future__ import annotations

from .ct_cone import cone_rows
from .ct_lowdose import lowdose_rows
from .ct_parallel import parallel_rows
from .ct_real import real_rows
from .ct_scaling import scaling_rows

PARTS = (parallel_rows, cone_rows, scaling_rows, real_rows, lowdose_rows)
