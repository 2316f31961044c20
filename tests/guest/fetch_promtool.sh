#!/bin/sh
# Fetches promtool, Prometheus' own checker, out of Debian's package without installing that: it
# would start a server.
#
#     fetch_promtool.sh DIRECTORY
#
# Afterwards DIRECTORY/promtool is there, unless the package cannot be had: that is said, and no error,
# for the tests have a parser of their own as well. What is there already is kept.
set -eu

directory=${1:?where to}
mkdir -p "$directory"
directory=$(cd "$directory" && pwd)
[ ! -x "$directory/promtool" ] || exit 0
work=$(mktemp -d "$directory/promtool-XXXXXX")
trap 'rm -rf "$work"' EXIT

if (cd "$work" && apt-get -qq -o APT::Sandbox::User=root download prometheus) &&
	dpkg-deb --fsys-tarfile "$work"/prometheus_*.deb | tar -x -C "$work" ./usr/bin/promtool; then
	mv "$work/usr/bin/promtool" "$directory/promtool"
else
	echo "promtool cannot be fetched: the tests do without it"
fi
