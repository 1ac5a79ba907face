#!/usr/bin/env bash
# Finds a full Java 17 (or 21); installs the headless JRE as root on Debian or Ubuntu; else says exactly what to do.
set -eu
works() { "$1" -version 2>&1 | grep -qE '"(17|21)' && "$1" --list-modules 2>/dev/null | grep -q jdk.incubator.vector; }
for program in "${JAVA_HOME:-/nonexistent}/bin/java" "$(command -v java || true)"; do
  if [ -n "$program" ] && [ -x "$program" ] && works "$program"; then exit 0; fi
done
if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq openjdk-17-jre-headless > /dev/null
  works "$(command -v java)" && exit 0
fi
echo "Java 17 is missing. Install a full (not trimmed) Java 17 runtime and put it on PATH or in JAVA_HOME:" >&2
echo "  Debian, Ubuntu: sudo apt-get install openjdk-17-jre-headless    macOS: brew install openjdk@17" >&2
exit 5
