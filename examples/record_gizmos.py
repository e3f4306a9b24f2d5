"""Record a graph of gizmos with two cameras: a session for each, on one clock.

python examples/record_gizmos.py [VIDEO] [SESSION]
"""

import sys
from pathlib import Path

from degirum_tools import ModelSpec
from degirum_tools.streams import AiSimpleGizmo, Composition, VideoSourceGizmo

import dgrec
from dgrec import sample


def main(video, output):
    spec = ModelSpec(
        model_name=sample.MODEL_NAME, zoo_url=str(sample.ZOO), inference_host_address="@local"
    )
    with (
        spec.load_model() as left,
        spec.load_model() as right,
        dgrec.Recorder(output, overwrite=True) as recorder,
    ):
        Composition(
            VideoSourceGizmo(video) >> AiSimpleGizmo(left) >> recorder.gizmo(name="left"),
            VideoSourceGizmo(video) >> AiSimpleGizmo(right) >> recorder.gizmo(name="right"),
        ).start()
    for path in sorted(recorder.files):
        with dgrec.open(path) as session:
            print(f"{Path(path).name}: {len(session)} frames")


if __name__ == "__main__":
    main(*(sys.argv[1:] + [str(sample.CLIP), "gizmos.parquet"][len(sys.argv) - 1 :]))
