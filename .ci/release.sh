#!/usr/bin/env bash
# Builds the release of the commit that is checked out into build/release: wheel, zip and their SHA-256 digests. It is made of
# the committed files alone, dated by the commit and built by pinned tools, so the same commit gives the same bytes.
set -euo pipefail
umask 022
cd "$(dirname "$0")/.."

refuse() {
  echo "no release: $1" >&2
  exit 2
}

version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' zigong/__init__.py)
changes=$(git status --porcelain)
[ -z "$changes" ] || refuse "the tree differs from its commit; commit or stash first:"$'\n'"$changes"
grep -qE "^## ${version//./\\.} - [0-9]{4}-[0-9]{2}-[0-9]{2}$" CHANGELOG.md ||
  refuse "CHANGELOG.md has no section '## $version - YYYY-MM-DD'; add it, or set another __version__ in zigong/__init__.py"
unreleased=$(awk '/^## / { inside = ($0 == "## Unreleased"); next } inside && NF' CHANGELOG.md)
[ -z "$unreleased" ] ||
  refuse "CHANGELOG.md lists changes under 'Unreleased'; move them to a section of the version that holds them, and set __version__"
tagged=$(git rev-parse --quiet --verify "refs/tags/v$version^{commit}" || true)
[ -z "$tagged" ] || [ "$tagged" = "$(git rev-parse HEAD)" ] ||
  refuse "v$version is the tag of commit $tagged; set the next __version__ in zigong/__init__.py"

rm -rf build/release build/release-source
mkdir -p build/release build/release-source
git archive HEAD | tar -x -C build/release-source
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) "$UV" build --quiet --wheel --python "$PYTHON" \
  --build-constraints requirements/build.txt --require-hashes --out-dir build/release build/release-source
rm -rf build/release-source
cd build/release
cp "zigong-$version-py3-none-any.whl" "zigong-$version.zip"
if command -v sha256sum > /dev/null; then digest="sha256sum"; else digest="shasum -a 256"; fi
$digest "zigong-$version-py3-none-any.whl" "zigong-$version.zip" | tee SHA256SUMS
