"""Record a model that runs over the images of a folder, whatever their sizes.

python examples/record_images.py [FOLDER] [SESSION]
"""

import sys
import tempfile
from pathlib import Path

import av
from degirum_tools import ModelSpec

import dgrec
from dgrec import sample


def make_images(folder):
    """Fill a folder with pictures of the sample clip, small and large."""
    with av.open(str(sample.CLIP)) as video:
        for number, frame in enumerate(video.decode(video=0)):
            if number in (240, 300, 360):
                size = {240: (640, 360), 300: (320, 180), 360: (480, 270)}[number]
                frame.to_image(width=size[0], height=size[1]).save(folder / f"{number}.png")


def main(folder, output):
    spec = ModelSpec(
        model_name=sample.MODEL_NAME, zoo_url=str(sample.ZOO), inference_host_address="@local"
    )
    names = sorted(str(path) for path in Path(folder).iterdir())
    with (
        spec.load_model() as model,
        dgrec.Recorder(output, overwrite=True) as recorder,
        recorder.watch(model),
    ):
        for _ in model.predict_batch(names):
            pass
    with dgrec.open(output) as session:
        for frame in session:
            width, height = frame.size
            print(f"{Path(frame.info).name}: {width}x{height}, {len(frame.results)} faces")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1], (*sys.argv[2:], "images.parquet")[0])
    else:
        with tempfile.TemporaryDirectory() as made:
            make_images(Path(made))
            main(made, "images.parquet")
