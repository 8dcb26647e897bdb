"""The kinds of pictures that convert reads, and the names of others by their first bytes."""

from atoll_contract.archive.limits import shown

# Pillow's names. The first frame of a GIF or TIFF counts; other animations are no pictures.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF")
FIRST_FRAME_FORMATS = ("GIF", "TIFF")
FORMAT_OF_SUFFIX = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".gif": "GIF",
    ".avif": "AVIF",
}
_READ = "JPEG, PNG, WebP, BMP, TIFF, GIF or AVIF"
_HEIC = "HEIC, the iPhone's own kind, which is not read: export as JPEG, or set Camera → Formats → Most Compatible"
_OF_BRAND = {
    b"heic": _HEIC,
    b"heix": _HEIC,
    b"heim": _HEIC,
    b"heis": _HEIC,
    b"hevc": _HEIC,
    b"hevx": _HEIC,
    b"mif1": _HEIC,
    b"msf1": _HEIC,
}
_OF_MAGIC = (
    (b"8BPS", "a Photoshop file"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"%PDF", "PDF"),
    (b"<svg", "SVG"),
    (b"\x1aE\xdf\xa3", "a video"),
    (b"version https://git-lfs", "the pointer of Git LFS, whose file git lfs pull fetches"),
)


def name_unread(data: bytes) -> str:
    """Says that the file is no picture of a kind that is read, and what it is where its first bytes tell that."""
    head = data[:64]
    what = next((what for magic, what in _OF_MAGIC if head.startswith(magic)), "")
    if head[4:8] == b"ftyp":
        what = _OF_BRAND.get(head[8:12], "a video")
    if not head:
        what = "empty"
    found = f"it is {what}" if what else f"first bytes {shown(data[:8])}"
    return f"no readable {_READ} ({found})"
