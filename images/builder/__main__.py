"""Builds Atoll's images with docker, podman or buildah and writes the Helm values that name them.

`python images/builder build` prints what each image adds to its base in MB; `python images/builder load --target k3s`
brings the images of the last build into a cluster without a registry; `python images/builder save --to FOLDER` writes
them as archives; `python images/builder pin` asks a registry for the base's digest. `make images`, `make load`,
`make release` and `make pin` call it. It needs Python 3.11 and no package; PYTHONPATH has to name images/src.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from atoll_contract import __version__
from base import ask_digest, read_base, write_digest
from engine import EngineError, find_engine
from external import ExternalFile, LockError, given_files, read_lock
from k3s_manifests import write_manifest
from load import K3S_DEFAULT, load_into_k3s, load_into_kind, read_built, save_for_k3s, write_built
from values import ImageReference, read_values, write_values

ROOT = Path(__file__).parents[2]
VALUES = ROOT / "build" / "values-images.yaml"
# The images of the last build alone, one a line; beside the values that this build wrote.
BUILT = "images-built.txt"
BASE_LOCK = ROOT / "images" / "base.lock"
IMAGES = ("operator", "convert", "train", "train-gpu", "compile", "compile-rknn", "compile-qnn", "edge")
# A compile image without the compiler would only promise what it cannot do.
DEFAULT_IMAGES = ("operator", "convert", "train")
# The images that a chart's pods and its quick start's stages run, as far as they are Atoll's own.
CHART_IMAGES = {"atoll": DEFAULT_IMAGES, "atoll-edge": ("edge",)}
AMD64_ONLY = frozenset({"compile", "compile-rknn", "compile-qnn", "train-gpu"})
# Images that a build argument makes of another image's Dockerfile.
VARIANTS = {
    "train": ("train", {"DEVICE": "cpu"}),
    "train-gpu": ("train", {"DEVICE": "gpu"}),
    "compile-rknn": ("compile", {"COMPILER": "rknn"}),
    "compile-qnn": ("compile", {"COMPILER": "qnn"}),
}
COMPILERS = ("rknn", "qnn")


def build(options: argparse.Namespace) -> None:
    base = options.base or read_base(BASE_LOCK).reference
    print(f"the base is {base}", flush=True)
    lock = read_lock(ROOT / "images" / "external.lock")
    wanted = [lock.require(name) for name in options.external]
    for file in wanted:
        print(f"{file.name}: {file.path or file.url}, sha256 {file.sha256}", flush=True)
    asked = (*(file.image for file in wanted), *(f"compile-{name}" for name in options.compiler))
    extra = [image for image in dict.fromkeys(asked) if image not in DEFAULT_IMAGES]
    images = options.image or (*DEFAULT_IMAGES, *extra)
    with given_files(wanted, ROOT):
        references = _build_images(options, images, base, wanted)
    write_built(options.values.with_name(BUILT), [str(reference) for reference in references.values()])
    width = next((file.imagenet_width for file in wanted if file.imagenet_width), "")
    kept = write_values(options.values, references, imagenet_width=width)
    print(f"wrote {options.values}: helm install … -f {options.values}")
    if kept:
        print(f"  as they were before: {', '.join(kept)}")


def _build_images(
    options: argparse.Namespace, images: Sequence[str], base: str, wanted: Sequence[ExternalFile]
) -> dict[str, ImageReference]:
    engine = find_engine(options.engine, options.engine_flag)
    references: dict[str, ImageReference] = {}
    for number, image in enumerate(images, start=1):
        reference = ImageReference(registry=options.registry, repository=f"atoll/{image}", tag=options.tag)
        print(f"{reference}: image {number} of {len(images)}", flush=True)
        started = time.monotonic()
        engine.build(
            dockerfile=ROOT / "images" / _folder(image) / "Dockerfile",
            context=ROOT,
            tag=str(reference),
            arch="amd64" if image in AMD64_ONLY else options.arch,
            arguments={"BASE": base} | _arguments(image, options, wanted),
            flags=options.build_flag,
        )
        added = engine.size_mb(str(reference)) - engine.size_mb(base)
        seconds = time.monotonic() - started
        print(f"{reference}: {added:.0f} MB over the base, built in {seconds:.0f} s", flush=True)
        if options.push:
            reference = reference.with_digest(engine.push(str(reference)))
        references[image] = reference
    return references


def _arguments(image: str, options: argparse.Namespace, wanted: Sequence[ExternalFile]) -> dict[str, str]:
    arguments = {"VERSION": options.tag, "REVISION": options.revision or _revision()}
    # The builder's own package index; these are arguments of the build stage and do not reach the image.
    arguments |= {name: os.environ[name] for name in ("PIP_INDEX_URL", "PIP_CERT") if os.environ.get(name)}
    arguments |= VARIANTS[image][1] if image in VARIANTS else {}
    for file in wanted:
        if file.image in (image, image.removesuffix("-gpu")):
            arguments |= {f"{file.argument}_URL": file.url, f"{file.argument}_SHA256": file.sha256}
    return arguments


def _folder(image: str) -> str:
    """The folder of `images/` whose Dockerfile makes the image."""
    return VARIANTS[image][0] if image in VARIANTS else image


def _revision() -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False, timeout=30
    )
    return done.stdout.strip() or "unknown"


def pin(options: argparse.Namespace) -> None:
    image = read_base(BASE_LOCK).image
    try:
        digest = ask_digest(image, options.tool)
    except EngineError as error:
        raise EngineError(f"{image} is not pinned, and images/base.lock stays as it is: {error}") from None
    write_digest(BASE_LOCK, digest)
    print(f"{image} is {digest}; written to images/base.lock, which `make images` builds on")


def load(options: argparse.Namespace) -> None:
    engine = find_engine(options.engine, options.engine_flag)
    references = [] if options.image else read_built(VALUES.with_name(BUILT))
    if not references:
        references = [
            str(ImageReference(registry=options.registry, repository=f"atoll/{image}", tag=options.tag))
            for image in options.image or DEFAULT_IMAGES
        ]
    if options.target == "k3s":
        load_into_k3s(engine, references)
    else:
        load_into_kind(engine, references, options.name)


def manifests(options: argparse.Namespace) -> None:
    release = options.release or options.chart.removeprefix("atoll-")
    for image in CHART_IMAGES[options.chart] if not options.image else options.image:
        if image == "none":
            continue
        reference = ImageReference(registry=options.registry, repository=f"atoll/{image}", tag=options.tag)
        engine = find_engine(options.engine, options.engine_flag)
        print(f"{reference}: {save_for_k3s(engine, str(reference), options.to / 'agent' / 'images')}", flush=True)
    written = write_manifest(
        options.to,
        ROOT / "charts" / options.chart,
        release=release,
        namespace=options.namespace or options.chart,
        values=options.values,
        images=read_values(VALUES) if options.chart == "atoll" else {},
    )
    print(f"wrote {written}; on the k3s machine, as root: cp -r {options.to}/. {K3S_DEFAULT}/")


def save(options: argparse.Namespace) -> None:
    engine = find_engine(options.engine, options.engine_flag)
    for image in options.image or DEFAULT_IMAGES:
        reference = ImageReference(registry=options.registry, repository=f"atoll/{image}", tag=options.tag)
        archive = options.to / f"atoll-image-{image}-{options.tag}.tar"
        engine.save(str(reference), archive)
        print(f"{reference}: saved as {archive}", flush=True)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="images/builder", description=__doc__)
    commands = top.add_subparsers(required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--engine", help="docker, podman or buildah; the first one found otherwise")
    common.add_argument("--engine-flag", action="append", default=[], help="passed to every call of the engine")
    common.add_argument("--registry", default="", help="for example registry.example; none = local names")
    common.add_argument("--tag", default=__version__, help="%(default)s by default")
    common.add_argument("image", nargs="*", metavar="IMAGE", help=f"of {', '.join(IMAGES)}")
    one = commands.add_parser("build", parents=[common])
    one.add_argument("--arch", help="amd64 or arm64; the engine's own otherwise")
    one.add_argument("--base", help="any Debian image with Python 3.11 and venv; that of images/base.lock otherwise")
    one.add_argument("--revision", help="for the label; the checkout's commit otherwise")
    one.add_argument(
        "--external",
        action="append",
        default=[],
        metavar="NAME[=FILE]",
        help="an entry of images/external.lock, to be fetched or as a file of yours",
    )
    one.add_argument(
        "--compiler", action="append", default=[], choices=COMPILERS, help="also the compile image with this compiler"
    )
    one.add_argument("--build-flag", action="append", default=[], help="passed to the engine's build")
    one.add_argument("--values", type=Path, default=VALUES, help="where to write the Helm values")
    one.add_argument("--push", action="store_true", help="push to the registry and name the images by digest")
    one.set_defaults(run=build)
    two = commands.add_parser("load", parents=[common])
    two.add_argument("--target", choices=("k3s", "kind"), required=True)
    two.add_argument("--name", default="kind", help="the kind cluster's name")
    two.set_defaults(run=load)
    four = commands.add_parser("k3s-manifests", parents=[common])
    four.add_argument("--chart", choices=sorted(CHART_IMAGES), default="atoll", help="%(default)s by default")
    four.add_argument("--values", type=Path, action="append", default=[], help="a file of values; at most two")
    four.add_argument("--release", help="the release's name; atoll or edge by default")
    four.add_argument("--namespace", help="the chart's name by default")
    four.add_argument("--to", type=Path, default=ROOT / "build" / "k3s", help="%(default)s by default")
    four.set_defaults(run=manifests)
    saved = commands.add_parser("save", parents=[common])
    saved.add_argument("--to", type=Path, required=True, help="the folder for one docker archive an image")
    saved.set_defaults(run=save)
    three = commands.add_parser("pin")
    three.add_argument("--tool", help="skopeo, docker or podman; the first one found otherwise")
    three.set_defaults(run=pin, image=())
    return top


def main() -> int:
    options = parser().parse_args()
    unknown = sorted(set(options.image) - set(IMAGES) - ({"none"} if options.run is manifests else set()))
    try:
        if unknown:
            raise EngineError(f"there is no image {unknown[0]!r}; there are {', '.join(IMAGES)}")
        options.run(options)
    except (EngineError, LockError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
