"""Small archives of labelled pictures, good and hostile, made in memory."""

import gzip
import io
import json
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

Files = Mapping[str, bytes]
Label = tuple[str, float, float, float, float]

SIZE = (64, 48)


def picture(seed: int = 0, *, size: tuple[int, int] = SIZE, mode: str = "RGB") -> Image.Image:
    """A picture that differs from every other seed's, also at a glance: stripes and a block."""
    image = Image.new("RGB", size, (40 + seed * 53 % 160, 200 - seed * 31 % 150, seed * 97 % 255))
    draw = ImageDraw.Draw(image)
    width, height = size
    for number in range(6):
        x = (seed * 7919 + number * 104729 + seed * seed * 31) % width
        y = (seed * 15485863 + number * 32452843) % height
        shade = (seed * 37 + number * 83) % 255
        draw.rectangle((x, y, x + width // 4, y + height // 5), fill=(shade, 255 - shade, (shade * 3) % 255))
    return image if mode == "RGB" else image.convert(mode)


def encoded(image: Image.Image, form: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def jpeg(seed: int = 0, *, size: tuple[int, int] = SIZE) -> bytes:
    return encoded(picture(seed, size=size), "JPEG", quality=90)


def png_header(width: int, height: int) -> bytes:
    """A 1-bit PNG that claims this size and holds a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(64))), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


# Annotations.


def jpeg_claiming(width: int, height: int) -> bytes:
    """A small JPEG whose header promises so many pixels."""
    data = bytearray(jpeg(1))
    frame = data.index(b"\xff\xc0") + 5
    data[frame : frame + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def rectangle(label: str, xmin: float, ymin: float, xmax: float, ymax: float) -> dict[str, Any]:
    """A rectangle as Supervisely writes it."""
    points = {"exterior": [[xmin, ymin], [xmax, ymax]], "interior": []}
    return {"id": 1, "geometryType": "rectangle", "classTitle": label, "points": points, "tags": []}


def annotation(objects: Sequence[Any] = (), *, size: tuple[int, int] | None = SIZE, tags: Sequence[str] = ()) -> bytes:
    document: dict[str, Any] = {"description": "", "tags": [{"name": tag} for tag in tags], "objects": list(objects)}
    if size is not None:
        document["size"] = {"width": size[0], "height": size[1]}
    return json.dumps(document).encode()


def meta(*titles: str) -> bytes:
    classes = [{"title": title, "shape": "rectangle", "id": number} for number, title in enumerate(titles, start=10)]
    return json.dumps({"classes": classes, "tags": [], "projectType": "images"}).encode()


def supervisely(
    count: int = 10,
    *,
    project: str = "game",
    datasets: Sequence[str] = ("ds0",),
    labels: Sequence[str] = ("note",),
    first: int = 0,
) -> dict[str, bytes]:
    """An export with `count` pictures in each dataset, each with one box of each label."""
    files = {f"{project}/meta.json": meta(*labels)}
    for number_of_set, dataset in enumerate(datasets):
        for number in range(count):
            seed = first + number + 1000 * number_of_set
            objects = [rectangle(label, 4 + k, 5, 34 + k, 40) for k, label in enumerate(labels)]
            files[f"{project}/{dataset}/img/frame_{seed:05d}.jpg"] = jpeg(seed)
            files[f"{project}/{dataset}/ann/frame_{seed:05d}.jpg.json"] = annotation(objects)
    return files


def coco(count: int = 10, *, folder: str = "", labels: Sequence[str] = ("note",), first: int = 0) -> dict[str, bytes]:
    """A COCO document beside its pictures."""
    names = [f"p{first + number:04d}.jpg" for number in range(count)]
    document = {
        "images": [
            {"id": number, "file_name": name, "width": SIZE[0], "height": SIZE[1]} for number, name in enumerate(names)
        ],
        "annotations": [
            {"id": number, "image_id": number, "category_id": 1 + number % len(labels), "bbox": [4, 5, 30, 35]}
            for number in range(count)
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(labels, start=1)],
    }
    lead = f"{folder}/" if folder else ""
    files = {f"{lead}{name}": jpeg(first + number) for number, name in enumerate(names)}
    return {f"{lead}_annotations.coco.json": json.dumps(document).encode(), **files}


def voc_xml(name: str, boxes: Iterable[Label], *, size: tuple[int, int] = SIZE) -> bytes:
    objects = "".join(
        f"<object><name>{label}</name><bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax>"
        f"<ymax>{ymax}</ymax></bndbox></object>"
        for label, xmin, ymin, xmax, ymax in boxes
    )
    return (
        f"<annotation><filename>{name}</filename><size><width>{size[0]}</width><height>{size[1]}</height>"
        f"<depth>3</depth></size>{objects}</annotation>"
    ).encode()


def voc(count: int = 10) -> dict[str, bytes]:
    """Pascal VOC with the folders of its devkit."""
    files: dict[str, bytes] = {}
    for number in range(count):
        files[f"JPEGImages/p{number:04d}.jpg"] = jpeg(number)
        files[f"Annotations/p{number:04d}.xml"] = voc_xml(f"p{number:04d}.jpg", [("note", 4, 5, 34, 40)])
    return files


def yolo(count: int = 10, *, part: str = "train", first: int = 0) -> dict[str, bytes]:
    """YOLO as Ultralytics lays it out."""
    files = {"data.yaml": b"path: .\ntrain: images/train\nnc: 2\nnames: ['note', 'robot']\n"}
    for number in range(first, first + count):
        files[f"images/{part}/p{number:04d}.jpg"] = jpeg(number)
        files[f"labels/{part}/p{number:04d}.txt"] = f"{number % 2} 0.5 0.5 0.25 0.5\n".encode()
    return files


CSV_HEADER = "filename,width,height,class,xmin,ymin,xmax,ymax\n"


def tfod_csv(count: int = 6, *, parts: Sequence[str] = ("train", "test")) -> dict[str, bytes]:
    """The zip of Axon and Roboflow: a CSV beside the pictures of each part."""
    files: dict[str, bytes] = {}
    for number_of_part, part in enumerate(parts):
        rows = [CSV_HEADER]
        for number in range(count):
            seed = 100 * number_of_part + number
            files[f"{part}/p{seed}.jpg"] = jpeg(seed)
            rows.append(f'p{seed}.jpg,{SIZE[0]},{SIZE[1]},"note, small",4,5,34,40\n')
        files[f"{part}/_annotations.csv"] = "".join(rows).encode()
    return files


# Packing.


def tar_bytes(files: Files) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def zip_bytes(files: Files) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def gzip_bytes(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def packed(files: Files, suffix: str) -> bytes:
    """`files` as an archive of this suffix."""
    match suffix:
        case ".tar":
            return tar_bytes(files)
        case ".zip":
            return zip_bytes(files)
        case ".tar.gz" | ".tgz":
            return gzip_bytes(tar_bytes(files))
        case _:
            raise ValueError(suffix)


def write_files(files: Files, folder: Path) -> Path:
    """`files` as a plain folder."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


# Raw tar, for what no honest writer writes.

TAR_END = bytes(1024)


def tar_header(
    name: bytes, *, size: int = 0, kind: bytes = b"0", link: bytes = b"", size_field: bytes | None = None
) -> bytes:
    """One tar header with a right checksum, whatever is in it."""
    field = size_field if size_field is not None else f"{size:011o}".encode() + b"\0"
    head = name[:100].ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + field.ljust(12, b"\0") + b"00000000000\0"
    tail = kind + link[:100].ljust(100, b"\0") + b"ustar\0" + b"00"
    block = (head + b" " * 8 + tail).ljust(512, b"\0")
    return block[:148] + f"{sum(block):06o}".encode() + b"\0 " + block[156:]


def tar_member(name: bytes, data: bytes = b"", *, kind: bytes = b"0", link: bytes = b"") -> bytes:
    return tar_header(name, size=len(data), kind=kind, link=link) + data + bytes(-len(data) % 512)


def pax_member(records: Mapping[str, bytes], *, kind: bytes = b"x") -> bytes:
    """A PAX header with these records."""
    body = b"".join(_pax_record(key.encode(), value) for key, value in records.items())
    return tar_member(b"PaxHeader", body, kind=kind)


def _pax_record(key: bytes, value: bytes) -> bytes:
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + 1
    while len(str(length)) + len(rest) != length:
        length += 1
    return str(length).encode() + rest
