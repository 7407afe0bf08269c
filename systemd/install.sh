#!/bin/sh
# Installs driftd as a service, upgrades it, or takes it away. Run as root from an unpacked release (or `make dist`).
set -eu
umask 022

usage() {
  cat <<'TEXT'
usage: install.sh [--wheels DIR] [--python PROGRAM] [--no-packages]
       install.sh --uninstall [--purge]

Installs this release into /opt/driftd-VERSION-ID, points /opt/driftd at it, and installs the units driftd.service and
driftd@.service. Run it again from a later release to upgrade: running services are restarted, and if their configuration
does not suit the new release nothing is changed. The release before stays, to go back to.

  --wheels DIR      install from these packages alone and use no network (default: wheels/ of the release, if there)
  --python PROGRAM  the Python to use, 3.11 or later (default: the first that will do)
  --no-packages     only units and directories; for who brings /opt/driftd about in another way
  --uninstall       stop, disable and remove; configuration and state stay
  --purge           with --uninstall: remove configuration, secrets and state as well
TEXT
}

release=$(cd "$(dirname "$0")/.." && pwd)
units=/etc/systemd/system
wheels= python= packages=yes uninstall= purge=

say() { printf 'driftd: %s\n' "$*"; }
fail() {
  printf 'driftd: %s\n' "$*" >&2
  exit 1
}

while [ $# -gt 0 ]; do
  case $1 in
    --wheels) wheels=${2:?--wheels needs a directory} && shift ;;
    --python) python=${2:?--python needs a program} && shift ;;
    --no-packages) packages= ;;
    --uninstall) uninstall=yes ;;
    --purge) purge=yes ;;
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
  esac
  shift
done

# Names of units of ours in some states: driftd.service and every driftd@NAME.service.
ours() { systemctl list-units --plain --no-legend "$@" driftd.service 'driftd@*.service' | cut -d ' ' -f 1; }

config_of() {
  case $1 in
    driftd@*) name=${1#driftd@} && echo "/etc/driftd/${name%.service}.toml" ;;
    *) echo /etc/driftd/driftd.toml ;;
  esac
}

check_machine() {
  [ "$(id -u)" = 0 ] || fail "must be run as root"
  version=$(systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
  [ -n "$version" ] || fail "found no systemd"
  [ "$version" -ge 247 ] || fail "found systemd $version; the unit needs 247 or later"
}

# What a Python lacks, or nothing. The service sees no home directories: a Python there would not start.
lacks() {
  "$1" - 2>/dev/null <<'PROGRAM' || echo "does not run"
import os, sys
if sys.version_info < (3, 11):
    print(f"is {sys.version.split()[0]}, wanted 3.11 or later")
elif any(os.path.realpath(p).startswith(("/root/", "/home/", "/run/user/")) for p in (sys.executable, sys.base_prefix)):
    print("lies in a home directory, which a service cannot see")
else:
    try:
        import ensurepip, venv
    except ImportError:
        print("has no venv module (on Debian: apt install python3-venv)")
PROGRAM
}

choose_python() {
  tried=
  for candidate in ${python:-python3 python3.13 python3.12 python3.11}; do
    program=$(command -v "$candidate") || continue
    lack=$(lacks "$program")
    [ -n "$lack" ] || { python=$program && return; }
    tried="$tried; $program $lack"
  done
  fail "found no Python that will do${tried}. Debian: apt install python3 python3-venv; RHEL: dnf install python3.12"
}

install_packages() {
  wheel=$(ls "$release"/driftd-*.whl "$release"/dist/driftd-*.whl 2>/dev/null | head -n 1)
  [ -n "$wheel" ] || fail "found no driftd-*.whl in $release; run this from an unpacked release"
  lock=$release/requirements.lock
  [ -n "$wheels" ] || [ ! -d "$release/wheels" ] || wheels=$release/wheels
  choose_python
  version=$(basename "$wheel" | cut -d - -f 2)
  id=$({ cat "$wheel" "$lock" && "$python" --version; } | sha256sum | cut -c 1-8)
  new=/opt/driftd-$version-$id
  old=$(readlink -f /opt/driftd || true)
  [ -L /opt/driftd ] || [ ! -e /opt/driftd ] || fail "/opt/driftd is not of this script's making; move it away"
  if [ ! -e "$new/release" ]; then
    say "installing $version into $new"
    rm -rf "$new"
    # A release that is not whole is none.
    trap 'rm -rf "$new"' EXIT
    fill
    "$new/bin/python" -m pip --disable-pip-version-check check >/dev/null || fail "the packages do not fit together"
    echo "$version" >"$new/release"
    trap - EXIT
  fi
  for unit in $(ours --state=active); do
    "$new/bin/driftd" check-config "$(config_of "$unit")" >/dev/null ||
      fail "the configuration of $unit does not suit $version; nothing was changed. Mend it and run this again"
  done
  ln -sfn "$new" /opt/driftd.new && mv -T /opt/driftd.new /opt/driftd
  ln -sfn /opt/driftd/bin/driftd /usr/local/bin/driftd
  for other in /opt/driftd-*/release; do
    other=${other%/release}
    [ "$other" = "$new" ] || [ "$other" = "$old" ] || [ ! -e "$other/release" ] || rm -rf "$other"
  done
}

packages_from() { "$new/bin/python" -m pip --quiet --disable-pip-version-check install --no-deps --only-binary :all: "$@"; }

# The virtual environment. With the lock file of the release before, its packages are taken over as they are.
fill() {
  if cmp -s "$old/requirements.lock" "$lock" && [ "$("$old/bin/python" --version)" = "$("$python" --version)" ]; then
    "$python" -m venv --without-pip "$new"
    rm -rf "$new/lib"
    cp -al "$old/lib" "$new/lib"
  else
    "$python" -m venv "$new"
    if [ -n "$wheels" ]; then
      packages_from --no-index --find-links "$wheels" --require-hashes --requirement "$lock"
    else
      packages_from --require-hashes --requirement "$lock"
    fi
  fi
  packages_from --no-index --force-reinstall "$wheel"
  cp "$lock" "$new/requirements.lock"
}

install_service() {
  [ -x /opt/driftd/bin/driftd ] || fail "found no /opt/driftd/bin/driftd"
  install -m 0644 "$release/systemd/driftd.service" "$release/systemd/driftd@.service" "$units/"
  install -d -m 0755 /etc/driftd
  install -d -m 0700 /etc/driftd/secrets
  install -m 0644 "$release/config.example.toml" /etc/driftd/driftd.toml.example
  if command -v selinuxenabled >/dev/null && selinuxenabled; then
    restorecon -R /opt/driftd /opt/driftd-* /etc/driftd "$units/driftd.service" "$units/driftd@.service"
  fi
  systemctl daemon-reload
  for unit in $(ours --state=active); do
    say "restarting $unit"
    systemctl restart "$unit" ||
      fail "$unit does not start: journalctl -u $unit. To go back: ln -sfn ${old:-OLD} /opt/driftd, restart it"
  done
  [ -n "$(ours --state=active)" ] || next_steps
}

next_steps() {
  cat <<'TEXT'
driftd: installed. Now
  1. write /etc/driftd/driftd.toml (every key: /etc/driftd/driftd.toml.example)
  2. put each secret into a file of its own in /etc/driftd/secrets and name it in a drop-in: systemctl edit driftd
         [Service]
         LoadCredential=slack_token:/etc/driftd/secrets/slack_token
  3. seal a reference: /opt/driftd/bin/driftd reference build --config /etc/driftd/driftd.toml --model NAME FILE
  4. systemctl enable --now driftd
TEXT
}

remove() {
  for unit in $(ours --all); do systemctl stop "$unit"; done
  for link in "$units"/*.wants/driftd.service "$units"/*.wants/driftd@*.service; do
    [ ! -L "$link" ] || systemctl --quiet disable "$(basename "$link")"
  done
  rm -f "$units/driftd.service" "$units/driftd@.service"
  [ ! -L /usr/local/bin/driftd ] || rm -f /usr/local/bin/driftd
  [ ! -L /opt/driftd ] || rm -f /opt/driftd
  for other in /opt/driftd-*/release; do [ ! -e "$other" ] || rm -rf "${other%/release}"; done
  systemctl daemon-reload
  if [ -z "$purge" ]; then
    say "removed; /etc/driftd and /var/lib/driftd* are still there (--uninstall --purge removes them too)"
    return
  fi
  rm -rf /etc/driftd "$units"/driftd.service.d "$units"/driftd@*.service.d
  for base in /var/lib /var/cache; do
    rm -rf "$base"/driftd "$base"/driftd-* "$base"/private/driftd "$base"/private/driftd-*
  done
  say "removed, with configuration, secrets and state"
}

check_machine
if [ -n "$uninstall" ]; then
  remove
else
  [ -z "$packages" ] || install_packages
  install_service
fi
