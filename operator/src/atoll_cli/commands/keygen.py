"""`atoll keygen`: a key pair for signing releases."""

import os
from pathlib import Path

import click

from atoll_cli.output import Output, output_option
from atoll_contract.errors import SpecError
from atoll_contract.signing import generate_key


@click.command(name="keygen", short_help="Make a key pair for signing releases.")
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False), default=Path("atoll-signing.pem"))
@output_option
def keygen_command(path: Path, output: Output) -> None:
    """Write an Ed25519 private key to PATH and its public half to PATH.pub.

    The private key goes into the Secret that ObjectStore.spec.signingKeyRef names (or to atoll run --signing-key),
    the public one onto the robots. Whoever has the private key can sign what a robot will load.
    """
    public = path.with_name(path.name + ".pub")
    pair = generate_key()
    for file, data, mode in ((path, pair.private_pem, 0o600), (public, pair.public_pem, 0o644)):
        _write_new(file, data, mode)
    if output.is_text:
        click.echo(f"private key: {path}\npublic key:  {public}\nkey id:      {pair.key_id}")
    else:
        document = {"privateKey": str(path), "publicKey": str(public), "keyId": pair.key_id}
        output.print(document, [str(path), str(public)])


def _write_new(path: Path, data: bytes, mode: int) -> None:
    """Raises SpecError if there is such a file: no later release could be signed with a key that was overwritten."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise SpecError(f"{path} exists already and is not overwritten; name another file") from None
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
