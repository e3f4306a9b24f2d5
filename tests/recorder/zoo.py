"""A small zoo of the bundled model, with a postprocessor that misbehaves at some frame."""

from __future__ import annotations

from pathlib import Path

from dgrec import sample

__all__ = ["broken_model"]


def broken_model(folder: Path, body: str, after: int) -> list[str]:
    """Write a zoo whose model runs ``body`` at the frame after ``after``; return its options."""
    zoo = folder / "zoo" / sample.MODEL_NAME
    zoo.mkdir(parents=True)
    for path in (sample.ZOO / sample.MODEL_NAME).iterdir():
        if path.suffix in (".tflite", ".json", ".py"):
            (zoo / path.name).write_bytes(path.read_bytes())
    (postprocessor,) = zoo.glob("*.py")
    postprocessor.write_text(
        postprocessor.read_text()
        + f"""

class PostProcessor(PostProcessor):
    frames = 0

    def forward(self, tensor_list, details_list):
        type(self).frames += 1
        if type(self).frames > {after}:
            {body}
        return super().forward(tensor_list, details_list)
"""
    )
    return ["--model-name", sample.MODEL_NAME, "--zoo-url", "zoo"]
