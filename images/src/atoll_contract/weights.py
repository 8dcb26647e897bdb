"""Under which file names start weights lie in a store's `weights/` and in a train image."""

IMAGENET_WIDTHS = (1.0, 0.5, 0.35)


def imagenet_names(width: float) -> tuple[str, ...]:
    """File names under which the weights of a width are known: Keras 3's own, and the one Keras downloads."""
    text = "1.0" if width == 1.0 else str(width)
    return (
        f"mobilenet_v2_{text}_224_no_top.weights.h5",
        f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{text}_224_no_top.h5",
    )
