# Sourced by the other scripts: `bootstrap SET…` makes .venv hold exactly the hash-checked packages of
# requirements/SET.lock, for each SET asked for so far. Needs git, Python ≥ 3.11 with pip, and a package index.
#
# What it owns: .tools/ (uv) and .venv/. Both may be deleted at any time. Two calls at once wait for each
# other (flock); a call that dies half-way leaves no stamp, so the next one does the work again.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv="$root/.venv"

find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  echo "asof needs Python 3.11 or newer with pip; none was found. Install one, or name it: PYTHON=/path/to/python3.11 $0" >&2
  return 1
}

digest_of() { cat "$@" | sha256sum | cut -d' ' -f1; }

# The fast path of every later call: no Python is started, nothing is written.
is_ready() {
  local set
  for set in "$@"; do
    [ -f "$venv/.asof-$set" ] && [ "$venv/.asof-$set" -nt "$root/requirements/$set.lock" ] || return 1
  done
}

bootstrap() {
  is_ready "$@" || (
    exec 9>"$root/.bootstrap.lock"
    if command -v flock >/dev/null; then flock 9; fi
    is_ready "$@" || install_sets "$@"
  )
}

install_sets() {
  local python uv set sets=() locks=()
  python=$(find_python) || return 1
  echo "asof: preparing $* (once; into .venv/ and .tools/)" >&2
  install_uv "$python" || return 1
  uv="$root/.tools/uv/bin/uv"
  if ! "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    "$uv" venv --quiet --clear --python "$python" "$venv" || return 1
  fi
  for set in base demo service dev bench; do
    if [[ " $* " == *" $set "* ]] || [ -f "$venv/.asof-$set" ]; then
      sets+=("$set") locks+=("$root/requirements/$set.lock")
    fi
  done
  rm -f "$venv"/.asof-*
  "$uv" pip sync --quiet --require-hashes --python "$venv/bin/python" "${locks[@]}" || return 1
  for set in "${sets[@]}"; do : >"$venv/.asof-$set"; done
}

# pip checks the hash of uv itself; into a folder of its own, because a system Python refuses to be changed.
install_uv() {
  local stamp="$root/.tools/uv/.$(digest_of "$root/requirements/tools.lock")"
  [ -f "$stamp" ] && return
  rm -rf "$root/.tools/uv"
  "$1" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --require-hashes \
    --target "$root/.tools/uv" --requirement "$root/requirements/tools.lock" || {
    echo "asof: pip could not install uv (see above). Is there a network, and does '$1 -m pip --version' answer?" >&2
    return 1
  }
  : >"$stamp"
}
