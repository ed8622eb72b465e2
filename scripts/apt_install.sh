#!/bin/sh
# Install the named Debian packages that are missing. Does nothing, with a hint, where that is not possible.
set -e
command -v dpkg-query >/dev/null && command -v apt-get >/dev/null || exit 0

missing=""
for package in "$@"; do
    dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null | grep -q "install ok installed" \
        || missing="$missing $package"
done
[ -z "$missing" ] && exit 0

if [ "$(id -u)" = 0 ]; then
    as_root=""
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root="sudo"
else
    echo "Please install these system packages yourself: sudo apt-get install$missing" >&2
    exit 0
fi
echo "Installing system packages:$missing"
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq >/dev/null || true
$as_root apt-get install -qq -y --no-install-recommends $missing >/dev/null
