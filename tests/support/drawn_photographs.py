"""Pictures for measurements, which a JPEG codec finds as hard as photographs."""

from PIL import Image

from support.archives import encoded

BOXES = 13


def photograph(seed: int, side: int) -> bytes:
    """A JPEG with the texture of a photograph: smooth shapes and fine noise."""
    # Not at the top: each process that prepares pictures imports this module anew.
    import numpy as np

    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 255, (12, 16, 3), dtype=np.uint8)).resize((side, side * 3 // 4))
    noise = random.normal(0, 6, (side * 3 // 4, side, 3))
    return encoded(Image.fromarray(np.clip(np.asarray(coarse) + noise, 0, 255).astype(np.uint8)), "JPEG", quality=85)
