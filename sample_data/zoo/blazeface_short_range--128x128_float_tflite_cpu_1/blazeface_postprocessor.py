"""Turns the raw tensors of MediaPipe BlazeFace (short range) into PySDK detections.

PySDK loads this file in a worker process of its own, because the model's JSON names it as
`PythonFile`. It creates `PostProcessor` once for each configuration (again whenever a threshold
is changed) and calls `forward` once a frame. It may rely on numpy and OpenCV, nothing else.
"""

import json

import numpy as np

KEY_POINTS = (
    "right_eye",
    "left_eye",
    "nose_tip",
    "mouth_center",
    "right_ear_tragion",
    "left_ear_tragion",
)
BOX_VALUES = 4 + 2 * len(KEY_POINTS)

# (side of a grid cell in input pixels, anchors in each cell), in the order of the output rows.
ANCHOR_LAYERS = ((8, 2), (16, 6))


class PostProcessor:
    """Decodes, thresholds and merges the 896 candidate faces of one frame."""

    def __init__(self, json_config):
        """Read thresholds, labels and the input size from the model's parameters (a JSON text)."""
        config = json.loads(json_config)
        output = config["POST_PROCESS"][0]
        image = config["PRE_PROCESS"][0]
        self._min_score = float(output.get("OutputConfThreshold", 0.5))
        self._max_overlap = float(output.get("OutputNMSThreshold", 0.3))
        self._max_detections = int(output.get("MaxDetections", 100))
        self._anchors = anchor_centres(int(image["InputW"]), int(image["InputH"]))
        with open(output["LabelsPath"], encoding="utf-8") as labels:
            self._label = json.load(labels)["0"]

    def forward(self, tensor_list, details_list):
        """Return the faces of one frame, best first, in pixels of the model's input.

        `tensor_list` holds the box tensor (1, 896, 16) and the score tensor (1, 896, 1); they are
        told apart by their last axis, as the runtime does not promise an order. PySDK converts
        `bbox` and `landmark` to source pixels and clips them to the frame.
        """
        boxes = next(t for t in tensor_list if t.shape[-1] == BOX_VALUES).reshape(-1, BOX_VALUES)
        logits = next(t for t in tensor_list if t.shape[-1] == 1).reshape(-1)
        # float64 and a clip: a logit of -105 must not overflow exp() into a warning.
        scores = 1.0 / (1.0 + np.exp(-np.clip(logits.astype(np.float64), -80.0, 80.0)))

        kept = np.flatnonzero(scores >= self._min_score)
        kept = kept[np.argsort(-scores[kept], kind="stable")]
        scores = scores[kept]
        faces = decode(boxes[kept].astype(np.float64), self._anchors[kept])
        faces, scores = merge_overlapping(faces, scores, self._max_overlap)
        return [
            self._detection(face, score)
            for face, score in zip(faces[: self._max_detections], scores[: self._max_detections])
        ]

    def _detection(self, face, score):
        # tolist(): PySDK refuses numpy arrays in a postprocessor's answer.
        return {
            "bbox": face[:4].tolist(),
            "score": float(score),
            "category_id": 0,
            "label": self._label,
            "landmarks": [
                {"category_id": index, "label": name, "landmark": point}
                for index, (name, point) in enumerate(
                    zip(KEY_POINTS, face[4:].reshape(-1, 2).tolist())
                )
            ],
        }


def anchor_centres(width, height):
    """Return the centres (x, y) in input pixels that the output rows refer to, one a row."""
    layers = []
    for cell, anchors_a_cell in ANCHOR_LAYERS:
        y, x = np.mgrid[0 : height // cell, 0 : width // cell]
        centres = (np.stack([x, y], axis=-1).reshape(-1, 2) + 0.5) * cell
        layers.append(np.repeat(centres, anchors_a_cell, axis=0))
    return np.concatenate(layers)


def decode(boxes, anchors):
    """Turn rows (centre, size, key points; relative to the anchor) into (corners, key points)."""
    centre = boxes[:, :2] + anchors
    # The network does not rule out a negative size; a box must not come out inside out.
    half_size = np.maximum(boxes[:, 2:4], 0.0) / 2.0
    points = boxes[:, 4:].reshape(-1, len(KEY_POINTS), 2) + anchors[:, None, :]
    return np.concatenate(
        [centre - half_size, centre + half_size, points.reshape(-1, 2 * len(KEY_POINTS))], axis=1
    )


def merge_overlapping(faces, scores, max_overlap):
    """Merge every group of overlapping candidates into one face; rows come best score first.

    BlazeFace answers a face with many slightly different boxes. Their score-weighted mean jitters
    less from frame to frame than the best box alone. The merged face keeps the best score.
    """
    merged, best_scores = [], []
    while len(faces):
        same = overlap(faces[0], faces) > max_overlap
        same[0] = True  # a box without an area overlaps nothing, not even itself
        merged.append(np.average(faces[same], axis=0, weights=scores[same]))
        best_scores.append(scores[0])
        faces, scores = faces[~same], scores[~same]
    return np.array(merged).reshape(-1, BOX_VALUES), np.array(best_scores)


def overlap(face, others):
    """Return the intersection over union of one face's box with each of the others'."""
    top_left = np.maximum(face[:2], others[:, :2])
    bottom_right = np.minimum(face[2:4], others[:, 2:4])
    shared = np.prod(np.maximum(bottom_right - top_left, 0.0), axis=1)
    area = np.prod(face[2:4] - face[:2])
    other_areas = np.prod(others[:, 2:4] - others[:, :2], axis=1)
    union = area + other_areas - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
