"""ANTsPy's SyN as a peer, run by the Python of its own environment because it wants an older NumPy.

Reads one request a line, "fixed moving labels result" (paths of NIfTI files), writes the labels carried over to
``result`` and answers with the seconds of the registration and of carrying labels over.
"""

import sys
import time


def main():
    import ants

    print("ready", flush=True)
    for line in sys.stdin:
        fixed_path, moving_path, labels_path, result_path = line.split("\t")
        fixed, moving, labels = (ants.image_read(p) for p in (fixed_path, moving_path, labels_path))
        start = time.perf_counter()
        found = ants.registration(fixed, moving, type_of_transform="SyN", random_seed=1)
        carried = ants.apply_transforms(fixed, labels, found["fwdtransforms"], interpolator="nearestNeighbor")
        seconds = time.perf_counter() - start
        ants.image_write(carried, result_path.strip())
        print(seconds, flush=True)


if __name__ == "__main__":
    main()
