"""The ``medimgai`` command inside Slicer.

Slicer --no-main-window --python-script medimgai_batch.py <task> --input FILE --output FILE [--<parameter> VALUE …]
"""

import sys
from pathlib import Path


def _find_libraries():
    """Make the three libraries importable where Slicer does not load the modules itself.

    Here they lie beside this script's folder; in the source tree the other two modules lie one level up.
    """
    here = Path(sys.argv[0] if "__file__" not in globals() else __file__).resolve()
    module = here.parent.parent
    for folder in (module, module.parent / "MedImgAIReconstruct", module.parent / "MedImgAIFusion"):
        if folder.is_dir() and str(folder) not in sys.path:
            sys.path.append(str(folder))


def _run() -> int:
    _find_libraries()
    from MedImgAILib.hosts.cli import main

    return main(sys.argv[1:])


if __name__ == "__main__":
    exit_code = _run()
    if "slicer" in sys.modules and hasattr(sys.modules["slicer"], "app"):
        import slicer.util

        slicer.util.exit(exit_code)
    else:
        sys.exit(exit_code)
