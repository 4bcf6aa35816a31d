# Shared by the scripts of this folder: messages, and apt-get without side effects. Sourced, not run.

say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }

die() {
    say "$@"
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

is_root() { [ "$(id -u)" -eq 0 ]; }

# A temporary folder that is gone when the script ends. apt-get's own user must be able to read it.
make_scratch() {
    scratch=$(mktemp -d)
    chmod 755 "$scratch"
    trap 'unguard_services; rm -rf "$scratch"' EXIT
    trap 'exit 130' INT TERM
}

# apt-get update, tried twice; further arguments are apt options.
apt_update() {
    apt-get -q "$@" update >&2 && return
    say "apt-get update failed, trying once more"
    apt-get -q "$@" update >&2
}

# A Debian package with a server starts it when it is installed. policy-rc.d is Debian's way to say no. The machine's own,
# if it has one, is put aside and comes back; the mark tells it from one that an interrupted run of ours left.
policy=/usr/sbin/policy-rc.d
policy_aside=$policy.consul-edge-setup
policy_mark='# written by consul-edge while it installs packages'
guarded=

guard_services() {
    if [ -e "$policy" ] && ! grep -qF "$policy_mark" "$policy"; then mv "$policy" "$policy_aside"; fi
    guarded=yes
    printf '#!/bin/sh\n%s\nexit 101\n' "$policy_mark" >"$policy"
    chmod 755 "$policy"
}

unguard_services() {
    [ -n "$guarded" ] || return 0
    guarded=
    rm -f "$policy"
    if [ -e "$policy_aside" ]; then mv "$policy_aside" "$policy"; fi
}

# apt_install [apt options --] package...: as root, without recommended packages, and without starting (now) or enabling
# (at the next boot) the services that come along.
apt_install() {
    local options=() status=0 enabled
    if [[ " $* " == *" -- "* ]]; then
        while [ "$1" != -- ]; do
            options+=("$1")
            shift
        done
        shift
    fi
    enabled=$(list_enabled)
    guard_services
    DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=120 \
        "${options[@]}" install "$@" </dev/null >&2 || status=$?
    unguard_services
    comm -13 <(echo "$enabled") <(list_enabled) | xargs -r rm -f
    return "$status"
}

# The links that make systemd start services at boot, or listen for them.
list_enabled() { find /etc/systemd/system -path '*.wants/*' -type l 2>/dev/null | sort; }
