#!/bin/sh
# Installs atoll-edge on a Raspberry Pi (or any 64-bit Debian) without Kubernetes. Run it again to upgrade.
#
#   sudo sh install.sh                     from a checkout: this folder's own sources
#   sudo sh install.sh --wheels FOLDER     without a network: wheels made by `pip download` on another machine
#   sudo sh install.sh --coral FOLDER      with the Coral: libedgetpu1-std*.deb, tflite_runtime*.whl, pycoral*.whl
#   sudo sh install.sh --use k3s|systemd   switches between the two on an installed Pi; nothing else is changed
set -eu

here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
target=/opt/atoll-edge
wheels=
coral=
use=

say() { printf 'atoll-edge: %s\n' "$*"; }
fail() { printf 'atoll-edge: %s\n' "$*" >&2; exit 1; }

while [ $# -gt 0 ]; do
  case $1 in
    --wheels) wheels=${2:?--wheels needs a folder}; shift 2 ;;
    --coral) coral=${2:?--coral needs a folder}; shift 2 ;;
    --use) use=${2:?--use needs k3s or systemd}; shift 2 ;;
    *) fail "unknown option $1" ;;
  esac
done

require_64_bit() {
  bits=$(getconf LONG_BIT)
  machine=$(uname -m)
  [ "$bits" = 64 ] || fail "this is a $bits-bit system ($machine): LiteRT and NetworkTables have no packages for it." \
    "Write the 64-bit Raspberry Pi OS (bookworm or newer) to the card; a Pi 3, 4 or 5 runs it"
}

find_python() {
  for python in python3.11 python3; do
    if command -v "$python" >/dev/null && "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then
      command -v "$python"
      return
    fi
  done
  fail "Python 3.11 is missing: apt-get install python3.11 python3.11-venv, or Raspberry Pi OS bookworm, which has it"
}

# A node selector that no node has takes the pod away, and keeps it away over a reboot.
select_nodes() {
  k3s kubectl get daemonset --all-namespaces --selector app.kubernetes.io/name=atoll-edge \
    --output 'jsonpath={range .items[*]}{.metadata.namespace} {.metadata.name}{"\n"}{end}' |
    while read -r namespace name; do
      k3s kubectl --namespace "$namespace" patch daemonset "$name" --type merge --patch \
        "{\"spec\":{\"template\":{\"spec\":{\"nodeSelector\":{\"atoll.dev/edge\":$1}}}}}"
    done
}

switch_to() {
  case $1 in
    systemd)
      ! command -v k3s >/dev/null || select_nodes '"off"'
      systemctl enable --now atoll-edge ;;
    k3s)
      systemctl disable --now atoll-edge
      select_nodes null ;;
    *) fail "--use needs k3s or systemd, not $1" ;;
  esac
  say "now under $1; both use the models in /var/lib/atoll-edge, and never at once"
}

[ "$(id -u)" = 0 ] || fail "run it with sudo"
require_64_bit
if [ -n "$use" ]; then
  switch_to "$use"
  exit 0
fi

python=$(find_python)
say "installing to $target with $python"
id atoll-edge >/dev/null 2>&1 || useradd --system --home-dir /var/lib/atoll-edge --shell /usr/sbin/nologin atoll-edge
getent group plugdev >/dev/null || groupadd --system plugdev

# Built beside what runs now, and put in its place at the end: a cut in between leaves the old one.
new=$target.new
rm -rf "$new"
"$python" -m venv "$new"
set -- --require-hashes --only-binary=:all: --requirement "$source/images/edge/requirements.txt"
[ -z "$wheels" ] || set -- --no-index --find-links "$wheels" "$@"
"$new/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
if [ -n "$coral" ]; then
  dpkg -i "$coral"/libedgetpu1-std*.deb
  "$new/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps "$coral"/tflite_runtime*.whl "$coral"/pycoral*.whl
fi
packages=$("$new/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
cp -r "$source/images/src/atoll_contract" "$source/edge/src/atoll_edge" "$packages/"
cat > "$new/bin/atoll-edge" <<LAUNCHER
#!/bin/sh
exec $target/bin/python -P -m atoll_edge.cli "\$@"
LAUNCHER
chmod 755 "$new/bin/atoll-edge"
"$new/bin/python" -m compileall -q "$packages/atoll_contract" "$packages/atoll_edge"
rm -rf "$target.old"
[ ! -d "$target" ] || mv "$target" "$target.old"
mv "$new" "$target"
rm -rf "$target.old"
ln -sf "$target/bin/atoll-edge" /usr/local/bin/atoll-edge

mkdir -p /etc/atoll-edge
[ -f /etc/atoll-edge/config.yaml ] || cat > /etc/atoll-edge/config.yaml <<'SETTINGS'
# See docs/edge.md. Team and camera come from frc.json where it is there.
# team: 190
# model:
#   namespace: team-190
#   name: reefscape-note
#   publicKeyFiles: [/etc/atoll-edge/key.pem]
#   store: {type: s3, bucket: frc, endpoint: "https://minio.example:9000", credentialsDir: /etc/atoll-edge/credentials}
SETTINGS
cp "$here/atoll-edge.service" /etc/systemd/system/atoll-edge.service
systemctl daemon-reload
systemctl enable atoll-edge
systemctl restart atoll-edge
say "runs; look at http://$(hostname).local:5808/ or 'atoll-edge status'. Settings: /etc/atoll-edge/config.yaml"
