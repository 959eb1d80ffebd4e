#!/usr/bin/env bash
# Downloads the browser libraries of the dashboard, at these versions, into web/vendor. They are unmodified, except that the
# hooks import Preact by a path, since a browser can't resolve a bare name, and that links to source maps are removed.
set -euo pipefail
cd "$(dirname "$0")/web/vendor"
PREACT=11.2.0 HTM=3.1.1 LUCIDE=1.62.0
ICONS=(activity arrow-left bell bell-off bot check circle-alert circle-check circle-help circle-x clock columns-3 copy ghost
    hourglass inbox list loader log-out monitor moon plug radio search send sun terminal unplug x)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for package in "preact@$PREACT" "htm@$HTM" "lucide-static@$LUCIDE"; do
    (cd "$work" && mkdir "$package" && npm pack --silent "$package" >/dev/null && tar xzf ./*.tgz -C "$package" --strip-components 1 && rm ./*.tgz)
done
sed '/^\/\/# sourceMappingURL/d' "$work/preact@$PREACT/dist/preact.mjs" >preact.js
sed '/^\/\/# sourceMappingURL/d; s|from"preact"|from"./preact.js"|' "$work/preact@$PREACT/hooks/dist/hooks.mjs" >hooks.js
cp "$work/htm@$HTM/dist/htm.module.js" htm.js
{
    echo "<!-- lucide-static $LUCIDE, ISC: see LICENSES -->"
    echo '<svg xmlns="http://www.w3.org/2000/svg">'
    for icon in "${ICONS[@]}"; do
        echo "<symbol id=\"i-$icon\" viewBox=\"0 0 24 24\">"
        sed '1,/^>$/d; /^<\/svg>$/d' "$work/lucide-static@$LUCIDE/icons/$icon.svg"
        echo '</symbol>'
    done
    echo '</svg>'
} >icons.svg
{
    for package in "preact@$PREACT" "htm@$HTM" "lucide-static@$LUCIDE"; do
        printf '==== %s\n\n' "$package"
        cat "$work/$package/LICENSE"
        echo
    done
} >LICENSES
