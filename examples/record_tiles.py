"""Record a model that looks at a picture in tiles: one row a frame, its tiles put together.

python examples/record_tiles.py [VIDEO] [SESSION]
"""

import sys

from degirum_tools import ModelSpec, TileExtractorPseudoModel, TileModel

import dgrec
from dgrec import sample


def main(video, output):
    spec = ModelSpec(
        model_name=sample.MODEL_NAME, zoo_url=str(sample.ZOO), inference_host_address="@local"
    )
    with spec.load_model() as model:
        tiles = TileExtractorPseudoModel(cols=2, rows=1, overlap_percent=0.2, model2=model)
        stream = dgrec.predict_stream(
            TileModel(tiles, model), video, output=output, overwrite=True, max_frames=60
        )
        faces = sum(len(result.results) for result in stream)
    print(f"{faces} faces; recorded in {stream.output.name}")


if __name__ == "__main__":
    main(*(sys.argv[1:] + [str(sample.CLIP), "tiles.parquet"][len(sys.argv) - 1 :]))
