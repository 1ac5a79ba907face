#!/usr/bin/env bash
# Finds Chromium for the tests of pages; installs it as root on Debian or Ubuntu. Without it those tests are skipped.
set -eu
for program in chromium chromium-browser google-chrome; do
  if command -v "$program" > /dev/null; then exit 0; fi
done
if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium > /dev/null && exit 0
fi
echo "Chromium is missing: the tests that look at pages will be skipped (apt-get install chromium)" >&2
