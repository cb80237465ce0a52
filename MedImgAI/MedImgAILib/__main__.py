"""``python -m MedImgAILib``: the ``medimgai`` command without installation."""

import sys

from .hosts.cli import main

if __name__ == "__main__":
    sys.exit(main())
