"""Record a compound model, and the models in it beside it.

python examples/record_two_models.py [VIDEO] [SESSION]
"""

import sys
from pathlib import Path

from degirum_tools import CroppingAndDetectingCompoundModel, ModelSpec, predict_stream

import dgrec
from dgrec import sample


def main(video, output):
    spec = ModelSpec(
        model_name=sample.MODEL_NAME, zoo_url=str(sample.ZOO), inference_host_address="@local"
    )
    with spec.load_model() as coarse, spec.load_model() as fine:
        compound = CroppingAndDetectingCompoundModel(coarse, fine, crop_extent=50.0)
        with (
            dgrec.Recorder(output, overwrite=True) as recorder,
            recorder.watch(compound),
            recorder.watch(coarse, name="coarse"),
        ):
            for _ in predict_stream(compound, video):
                pass
    for path in recorder.files:
        with dgrec.open(path) as session:
            model = session.metadata["model"]["name"]
            print(f"{Path(path).name}: {len(session)} frames of {model}")


if __name__ == "__main__":
    main(*(sys.argv[1:] + [str(sample.CLIP), "two_models.parquet"][len(sys.argv) - 1 :]))
