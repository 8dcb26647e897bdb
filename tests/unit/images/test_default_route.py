"""The unit that gives a Pi's k3s a default route: it is there before k3s, and again after a reboot."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[3]
UNIT = ROOT / "edge" / "k3s" / "atoll-default-route.service"
# As the kernel answers: a link is added once, and shown only if it is there.
IP = """#!/bin/sh
state="$STATE"
echo "ip $*" >> "$state/calls"
case "$*" in
  "link show dummy0") [ -e "$state/link" ];;
  "link add dummy0 type dummy") [ ! -e "$state/link" ] && touch "$state/link";;
  "link delete dummy0") rm "$state/link";;
  *" dev dummy0"*|"link set dummy0 up") [ -e "$state/link" ];;
  *) exit 3;;
esac
"""


def unit() -> dict[str, dict[str, list[str]]]:
    """Section → name → values; a name may come several times."""
    found: dict[str, dict[str, list[str]]] = {}
    section = ""
    for line in UNIT.read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(section, {}).setdefault(name, []).append(value)
    return found


def test_P26_the_unit_runs_before_k3s_at_every_boot() -> None:
    assert "k3s.service" in unit()["Unit"]["Before"]
    assert unit()["Install"]["WantedBy"] == ["multi-user.target"]
    assert (unit()["Service"]["Type"], unit()["Service"]["RemainAfterExit"]) == (["oneshot"], ["yes"])
    page = (ROOT / "docs" / "edge.md").read_text()
    assert f"systemctl enable --now {UNIT.stem}" in page
    assert str(UNIT.relative_to(ROOT)) in page
    # Typed by hand, a link or a route is gone after a reboot.
    assert "ip link add" not in page


def test_P26_started_twice_it_ends_well_with_the_route(tmp_path: Path) -> None:
    program = tmp_path / "ip"
    program.write_text(IP)
    program.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "STATE": str(tmp_path)}
    for command in unit()["Service"]["ExecStart"] * 2:
        subprocess.run(["sh", "-c", command], check=True, env=environment, timeout=10)
    assert (tmp_path / "calls").read_text().splitlines()[-1].startswith("ip route replace default via ")
    for command in unit()["Service"]["ExecStop"]:
        subprocess.run(["sh", "-c", command], check=True, env=environment, timeout=10)
    assert not (tmp_path / "link").exists()
