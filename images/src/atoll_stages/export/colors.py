"""Colours of classes: the same class has the same colour in every chart and image of a report."""

from __future__ import annotations

import colorsys

# Most colour-blind readers can tell these apart, too (Okabe and Ito).
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6d3b", "#6a51a3")
# Steps of these shares of a circle never come back to where they were: hue, lightness and saturation differ.
STEPS = (0.618034, 0.754878, 0.569840)
LIGHTNESS, SATURATION = (0.34, 0.64), (0.55, 0.95)


def class_color(index: int) -> str:
    """Returns the colour of a class, counted from 0, as `#rrggbb`; no two of a thousand classes have the same."""
    if index < len(PALETTE):
        return PALETTE[index]
    hue, light, vivid = (index * step % 1.0 for step in STEPS)
    lightness = LIGHTNESS[0] + light * (LIGHTNESS[1] - LIGHTNESS[0])
    saturation = SATURATION[0] + vivid * (SATURATION[1] - SATURATION[0])
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, saturation)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


def class_rgb(index: int) -> tuple[int, int, int]:
    """Returns the same colour as three numbers from 0 to 255."""
    value = int(class_color(index)[1:], 16)
    return value >> 16, value >> 8 & 0xFF, value & 0xFF
