#!/usr/bin/env bash
# Types README's commands for a cluster into the cluster of your kubeconfig, and checks what they lead to.
#
#   tests/e2e/on_k3s.sh [LOG]
#
# For a machine that has a real k3s (as root) or any other cluster; it needs make's environment, kubectl and helm. It
# refuses a cluster that has Atoll already, changes nothing outside the namespace atoll and Atoll's own kinds, ends at
# the first command that fails, and leaves everything there. LOG (build/on-k3s.log) gets the commands and their output.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

log=${1:-build/on-k3s.log}
namespace=atoll
atoll=.venv/bin/atoll
mkdir -p "$(dirname "$log")"
: > "$log"

say() {
  printf '%s\n' "$*" | tee -a "$log"
}

end() {
  say "FAILED: $*"
  exit 1
}

# Type one command.
type_in() {
  say "\$ $1"
  bash -o pipefail -c "$1" 2>&1 | tee -a "$log" || end "$1"
}

# Type what sets a key of the bundled store for the commands after it, as docs/install.md has it. The key is not shown.
type_key() {
  local line="export $1=\"\$(kubectl get secret -n $namespace atoll-store -o jsonpath='{.data.$1}' | base64 -d)\""
  say "\$ $line"
  eval "$line"
  [ -n "${!1}" ] || end "the Secret atoll-store has no $1"
}

# The commands of README's section, one a line; a backslash at the end of a line goes on in the next.
readme_commands() {
  awk '/^## / { inside = ($0 == "## On a cluster"); next } inside && /^    / { print substr($0, 5) }' README.md |
    sed -e ':join' -e '/\\$/ { N; s/ *\\\n */ /; b join' -e '}'
}

if kubectl get crd trainingruns.atoll.dev > /dev/null 2>&1; then
  end "this cluster has Atoll already; name another one with KUBECONFIG, or remove it (docs/install.md#uninstall)"
fi
kubectl version > /dev/null 2>&1 || end "kubectl reaches no cluster; set KUBECONFIG (k3s: /etc/rancher/k3s/k3s.yaml)"

# The images need Python alone, the commands after them Atoll's own packages too.
[ -x "$atoll" ] || type_in "make setup"
mapfile -t commands < <(readme_commands)
[ "${#commands[@]}" -ge 3 ] || end "README.md has no commands in its section 'On a cluster'"
file=
for command in "${commands[@]}"; do
  # From here on the reader looks at the run; the checks below wait for it.
  if [[ $command == kubectl\ apply* ]]; then
    file=$(grep -oE '[^ ]+\.yaml' <<< "$command")
  fi
  type_in "$command"
done
[ -n "$file" ] || end "README.md applies no run"

run=$(kubectl get -n "$namespace" -f "$file" -o jsonpath='{.metadata.name}')
type_in "$atoll wait $run -n $namespace --timeout 3h"
phase=$(kubectl get trun "$run" -n "$namespace" -o jsonpath='{.status.phase}')
[ "$phase" = Succeeded ] || end "run $run is $phase"
release=$(kubectl get trun "$run" -n "$namespace" -o jsonpath='{.status.release.name}')
type_in "helm test $namespace -n $namespace"
type_in "$atoll doctor -n $namespace"
type_key AWS_ACCESS_KEY_ID
type_key AWS_SECRET_ACCESS_KEY
type_in "$atoll pull $release -n $namespace --to build/on-k3s/$release-$(date +%s)"
type_in "kubectl get trun,mrel -n $namespace -o wide"
say "ok: $(kubectl version -o json | grep -oE '"gitVersion": *"[^"]*"' | tail -n 1) made $release"
say "To remove all of it: helm uninstall atoll -n atoll --wait; kubectl delete namespace atoll; kubectl delete -f crds/"
