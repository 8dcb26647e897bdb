"""Runs in MediaPipe's own environment: prints what its ObjectDetector finds in pictures, as JSON.

`python mediapipe_detections.py MODEL PICTURE…`; for each picture a list of class, score and box (x, y, width, height)
in pixels, the best first. MediaPipe gives a box once that several classes share.
"""

import json
import sys
from typing import Any

import mediapipe
from mediapipe.tasks.python import BaseOptions, vision


def main(model: str, pictures: list[str]) -> None:
    options = vision.ObjectDetectorOptions(base_options=BaseOptions(model_asset_path=model))
    with vision.ObjectDetector.create_from_options(options) as detector:
        found = [detector.detect(mediapipe.Image.create_from_file(picture)).detections for picture in pictures]
    print(json.dumps([[row for item in detections for row in _rows(item)] for detections in found]))


def _rows(item: Any) -> list[list[object]]:
    box = item.bounding_box
    edges = [box.origin_x, box.origin_y, box.width, box.height]
    return [[category.category_name, category.score, edges] for category in item.categories]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
