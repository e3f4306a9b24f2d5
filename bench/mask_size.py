"""Bytes a mask takes in each encoding, over all masks of a session recorded with exact masks.

python bench/mask_size.py SESSION
"""

from __future__ import annotations

import sys
import zlib

import numpy as np

import dgrec
from dgrec.format.masks import pack_array


def main(path: str) -> None:
    sizes: dict[str, list[int]] = {"palette": [], "array": [], "bitmap": []}
    with dgrec.open(path) as session:
        for result in session:
            for detection in result.results:
                if "mask" in detection:
                    array = detection["mask"]["data"]
                    sizes["palette"].append(len(pack_array(array, "exact")["data"]))
                    sizes["array"].append(len(zlib.compress(np.ascontiguousarray(array), 6)))
                    sizes["bitmap"].append(len(pack_array(array, "bitmap")["data"]))
    print(f"{len(sizes['palette'])} masks; mean bytes a mask:")
    for name, values in sizes.items():
        print(f"  {name:8} {sum(values) / max(1, len(values)):8.0f}")


if __name__ == "__main__":
    main(sys.argv[1])
