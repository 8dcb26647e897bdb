#!/bin/sh
# Installs atoll-edge on a Raspberry Pi (or any 64-bit Debian) without Kubernetes. Run it again to upgrade.
#
#   sudo sh install.sh                     from a checkout: this folder's own sources
#   sudo sh install.sh --wheels FOLDER     without a network: wheels made by `pip download` on another machine
#   sudo sh install.sh --coral FOLDER      with the Coral: libedgetpu1-std*.deb, tflite_runtime*.whl, pycoral*.whl
#   sudo sh install.sh --rknn FOLDER       with a Rockchip NPU: librknnrt.so, rknn_toolkit_lite2*.whl and the wheels that it needs
#   sudo sh install.sh --use k3s|systemd   switches between the two on an installed Pi; nothing else is changed
#   sh install.sh --root FOLDER            into a system that is mounted there and has this machine's processor: files only
set -eu

here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
target=/opt/atoll-edge
state=/var/lib/atoll-edge
root=
wheels=
coral=
rknn=
use=

say() { printf 'atoll-edge: %s\n' "$*"; }
fail() { printf 'atoll-edge: %s\n' "$*" >&2; exit 1; }

while [ $# -gt 0 ]; do
  case $1 in
    --wheels) wheels=${2:?--wheels needs a folder}; shift 2 ;;
    --coral) coral=${2:?--coral needs a folder}; shift 2 ;;
    --rknn) rknn=${2:?--rknn needs a folder}; shift 2 ;;
    --root) mkdir -p "${2:?--root needs a folder}"; root=$(cd "$2" && pwd); shift 2 ;;
    --use) use=${2:?--use needs k3s or systemd}; shift 2 ;;
    *) fail "unknown option $1" ;;
  esac
done

require_64_bit() {
  bits=$(getconf LONG_BIT)
  machine=$(uname -m)
  [ "$bits" = 64 ] || fail "this is a $bits-bit system ($machine): LiteRT and NetworkTables have no packages for it." \
    "Write the 64-bit Raspberry Pi OS (bookworm or trixie) to the card; a Pi 3, 4 or 5 runs it"
}

# The system's own Python comes first: 3.11 on bookworm, 3.13 on trixie. The Coral's files are for 3.11 alone.
find_python() {
  if [ -n "$coral" ]; then
    first_python python3.11 11 || first_python python3 11
  else
    first_python python3 11 13 || first_python python3.13 13 || first_python python3.11 11
  fi
}

first_python() {
  name=$1
  shift
  command -v "$name" >/dev/null || return 1
  minor=$("$name" -c 'import sys; print(*sys.version_info[:2])' 2>/dev/null) || return 1
  for wanted in "$@"; do
    [ "$minor" != "3 $wanted" ] || { command -v "$name"; return; }
  done
  return 1
}

say_missing() {
  if [ -n "$coral" ]; then
    fail "the Coral's files are for Python 3.11, which is missing here: Raspberry Pi OS bookworm has it" \
      "(apt-get install python3.11-venv). Without --coral this system's Python runs the CPU"
  fi
  fail "there is no Python 3.13 or 3.11: apt-get install python3 python3-venv on Raspberry Pi OS trixie (3.13)" \
    "or bookworm (3.11)"
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
      # The pod was root.
      chown -R atoll-edge: "$state"
      systemctl enable --now atoll-edge ;;
    k3s)
      systemctl disable --now atoll-edge
      # Without the capability to pass over permissions, which the pod may lack, root reads and writes what is its own.
      chown -R root: "$state"
      select_nodes null ;;
    *) fail "--use needs k3s or systemd, not $1" ;;
  esac
  say "now under $1; both use the models in /var/lib/atoll-edge, and never at once"
}

require_64_bit
[ -n "$root" ] || [ "$(id -u)" = 0 ] || fail "run it with sudo"
if [ -n "$use" ]; then
  switch_to "$use"
  exit 0
fi

# Before anything is fetched, and before what runs now is touched.
[ -z "$rknn" ] || [ -f "$rknn/librknnrt.so" ] || fail "$rknn must hold librknnrt.so, which --rknn installs"
[ -z "$rknn" ] || ls "$rknn"/rknn_toolkit_lite2*.whl >/dev/null 2>&1 \
  || fail "$rknn must hold the wheel rknn_toolkit_lite2*.whl, which --rknn installs"
python=$(find_python) || say_missing
version=$("$python" -c 'import sys; print("{}.{}".format(*sys.version_info))')
case $version in
  3.11) lock=requirements.txt ;;
  *) lock=requirements-py313.txt ;;
esac
say "installing to $root$target with Python $version ($python) and the packages of images/edge/$lock"
[ "$version" = 3.11 ] || say "for the CPU: the Coral's files are for Python 3.11 (Raspberry Pi OS bookworm)"
if [ -z "$root" ]; then
  id atoll-edge >/dev/null 2>&1 || useradd --system --home-dir "$state" --shell /usr/sbin/nologin atoll-edge
  getent group plugdev >/dev/null || groupadd --system plugdev
fi
mkdir -p "$root/opt" "$root/etc/atoll-edge" "$root/etc/systemd/system" "$root/usr/local/bin"

# Built beside what runs now, and put in its place by one rename at the end: a power cut leaves the old one or the new.
new=a
[ "$(readlink "$root$target" || true)" != atoll-edge.a ] || new=b
slot=$root$target.$new
rm -rf "$slot"
"$python" -m venv "$slot" || fail "Python's venv module is missing: apt-get install python3-venv"
set -- --require-hashes --only-binary=:all: --requirement "$source/images/edge/$lock"
[ -z "$wheels" ] || set -- --no-index --find-links "$wheels" "$@"
"$slot/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
if [ -n "$coral" ]; then
  [ -z "$root" ] || fail "--coral installs a Debian package, which --root does not; run it on the Pi"
  dpkg -i "$coral"/libedgetpu1-std*.deb || fail "libedgetpu wants libusb: apt-get install libusb-1.0-0, then again"
  "$slot/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps "$coral"/tflite_runtime*.whl "$coral"/pycoral*.whl
fi
if [ -n "$rknn" ]; then
  # From the folder alone: what has this name on a package index may be anybody's.
  "$slot/bin/python" -m pip install --quiet --disable-pip-version-check --no-index --find-links "$rknn" "$rknn"/rknn_toolkit_lite2*.whl \
    || fail "$rknn must hold rknn_toolkit_lite2 for Python $version, and the wheels that it needs (psutil, ruamel.yaml)"
  mkdir -p "$root/usr/lib"
  install -m 644 "$rknn/librknnrt.so" "$root/usr/lib/librknnrt.so"
fi
packages=$("$slot/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
cp -r "$source/images/src/atoll_contract" "$source/edge/src/atoll_edge" "$packages/"
"$slot/bin/python" -P -c 'import ai_edge_litert.interpreter, cscore, cv2, ntcore, atoll_edge.agent' \
  || fail "a package does not load here; on a lean system it is a library: apt-get install libatomic1 libusb-1.0-0"
cat > "$slot/bin/atoll-edge" <<LAUNCHER
#!/bin/sh
exec $target/bin/python -P -m atoll_edge.cli "\$@"
LAUNCHER
chmod 755 "$slot/bin/atoll-edge"
"$slot/bin/python" -m compileall -q "$packages/atoll_contract" "$packages/atoll_edge"
rm -f "$root$target.next"
# An installation of before has a folder where the link shall be.
[ -L "$root$target" ] || [ ! -d "$root$target" ] || mv "$root$target" "$root$target.old"
ln -s "atoll-edge.$new" "$root$target.next"
sync
mv -T "$root$target.next" "$root$target"
for other in a b old; do
  [ "$other" = "$new" ] || rm -rf "$root$target.$other"
done
ln -sf "$target/bin/atoll-edge" "$root/usr/local/bin/atoll-edge"

[ -f "$root/etc/atoll-edge/config.yaml" ] || cat > "$root/etc/atoll-edge/config.yaml" <<'SETTINGS'
# See docs/edge.md. Team and cameras come from frc.json where it is there.
# team: 190
# cameras:
#   - {name: front, path: /dev/v4l/by-path/...}
#   - {name: rear, path: /dev/v4l/by-path/...}
# model:
#   namespace: team-190
#   name: reefscape-note
#   publicKeyFiles: [/etc/atoll-edge/key.pem]
#   store: {type: s3, bucket: frc, endpoint: "https://minio.example:9000", credentialsDir: /etc/atoll-edge/credentials}
SETTINGS
cp "$here/atoll-edge.service" "$root/etc/systemd/system/atoll-edge.service"
if [ -n "$root" ]; then
  say "installed; on the Pi: useradd --system atoll-edge, then systemctl enable --now atoll-edge"
  exit 0
fi
systemctl daemon-reload
systemctl enable atoll-edge
systemctl restart atoll-edge
say "runs; look at http://$(hostname).local:5808/ or 'atoll-edge status'. Settings: /etc/atoll-edge/config.yaml"
