"""What runs on a host: POSIX sh for dash, bash and busybox, with words to be put in for each @name@."""

import re
from collections.abc import Mapping


def fill(script: str, fields: Mapping[str, str]) -> str:
    """The script with a shell word in the place of each @name@, in one pass: nothing in a word is taken for a name."""
    return re.sub("@([a-z0-9]+)@", lambda name: fields[name[1]], script)


# Manifests come in base64 because a damaged one may hold any byte; `.` ends each. Names that Ollama could not have made
# are listed apart, with what does not print replaced, so that no file name can pass for a line of ours.
# -L: people put blobs on other disks and link to them. The store is compared with where blobs/ lies because a part is
# renamed into it. "END" proves that nothing was cut off.
SCAN = r"""
p=@store@
if cd "$p" 2>/dev/null; then
  uid=$(stat -c %u .)
  echo "S $uid:$(stat -c %g .)"
  if [ -d manifests ]; then
    find -L manifests -type f ! -path '*[!A-Za-z0-9_.:/-]*' -exec sh -c '
      for f do echo "M $f"; head -c @most@ "$f" | base64; echo .; done' sh {} + 2>/dev/null
    find -L manifests -type f -path '*[!A-Za-z0-9_.:/-]*' 2>/dev/null | tr -c 'A-Za-z0-9_.:/\n-' '?' | sed 's/^/X /'
  fi
  if [ -d blobs ]; then
    find -L blobs -type f ! -path '*[!A-Za-z0-9_.:/-]*' -exec ls -lnL {} + 2>/dev/null | sed 's/^/B /'
    here=$(df -Pk . | tail -n 1); there=$(df -Pk blobs | tail -n 1)
    [ "${here##* }" = "${there##* }" ] || echo "O ${there##* }"
  fi
  for f in @stage@/sha256-*; do [ ! -f "$f" ] || ls -ln "$f"; done | sed 's/^/P /'
  for f in @stage@/recipes/*; do
    line=; [ ! -f "$f" ] || read -r line <"$f"
    [ -z "$line" ] || echo "R ${f##*/} $line"
  done
  echo "W $(find -L blobs manifests ! -user "$uid" 2>/dev/null | wc -l)"
else
  [ ! -e "$p" ] || echo C
  while ! cd "$p" 2>/dev/null; do p=$(dirname "$p"); done
fi
echo "D $(df -Pk . | tail -n 1)"
echo END
"""

# The stage stays root's where root makes it: whoever owns the store could otherwise put a link where root will write.
# Parts that nobody has continued for a week are not going to be. -mtime +6 is "more than six whole days".
OPEN = r"""
set -eu; umask 022
mine() { [ "$(id -u)" != 0 ] || chown "$1" "$2"; }
if [ ! -d @store@ ]; then
  mkdir -p @store@
  [ -z @owner@ ] || mine @owner@ @store@
fi
cd @store@
if [ -L @stage@ ]; then echo "@stage@ is a link" >&2; exit 1; fi
for d in blobs manifests; do
  if mkdir "$d" 2>/dev/null; then mine "$(stat -c %u:%g .)" "$d"; fi
done
mkdir -p @stage@/recipes
take() {
  if ! mkdir @stage@/lock 2>/dev/null; then
    [ ! -d @stage@/lock ] || return 1
    mkdir @stage@/lock || exit 1
  fi
  echo @who@ >@stage@/lock/who || { rm -rf @stage@/lock; exit 1; }
}
tries=0
until take; do
  tries=$((tries + 1)); if [ $tries -gt 5 ]; then echo "HELD 0 several syncs"; exit; fi
  holder=; { read -r holder <@stage@/lock/who; } 2>/dev/null || :
  since=$(stat -c %Y @stage@/lock 2>/dev/null) || continue
  age=$(( $(date +%s) - since ))
  if [ "$age" -lt @stale@ ] && { [ -z @dead@ ] || [ "$holder" != @dead@ ]; }; then echo "HELD $age $holder"; exit; fi
  mv @stage@/lock @stage@/lock.@token@ 2>/dev/null || continue
  found=; { read -r found <@stage@/lock.@token@/who; } 2>/dev/null || :
  if [ "$found" != "$holder" ]; then mv @stage@/lock.@token@ @stage@/lock; fi
  rm -rf @stage@/lock.@token@
done
find @stage@ -type f ! -path '*/recipes/*' ! -path '*/lock/*' -mtime +6 -exec rm -f {} +
echo TAKEN
"""

# What every other script begins with: only the holder of the lock changes anything, and it is heard of.
HOLDING = r"""
set -eu; umask 022; cd @store@
holder=; { read -r holder <@stage@/lock/who; } 2>/dev/null || :
if [ "$holder" != @who@ ]; then echo "the lock was taken over by ${holder:-nobody}" >&2; exit 1; fi
touch @stage@/lock
uid=$(id -u); owner=$(stat -c %u:%g .)
mine() { [ "$uid" != 0 ] || chown "$owner" "$1"; }
"""

LOOK = r"""
while read -r name size; do
  part=@stage@/$name
  have=$(stat -L -c %s "blobs/$name" 2>/dev/null || echo -1)
  if [ -L "$part" ] || [ "$have" = "$size" ] || [ "$(stat -c %s "$part" 2>/dev/null || echo 0)" -gt "$size" ]; then
    rm -f "$part"
  fi
  echo "$name $have $(stat -c %s "$part" 2>/dev/null || echo 0)"
done
"""

ADD = "cat >>@part@"

# The new file is on the disk before its name is: a power cut must not leave an empty blob under a valid name. A `sync`
# that takes no file syncs everything.
ACCEPT = r"""
part=@part@
have=$(stat -c %s "$part" 2>/dev/null || echo 0)
if [ "$have" != @size@ ]; then echo "SHORT $have"; exit; fi
sum=$(sha256sum <"$part"); sum=${sum%% *}
if [ "$sum" != @hex@ ]; then rm -f "$part"; echo "WRONG $sum"; exit; fi
chmod 644 "$part"; mine "$part"; touch "$part"
sync "$part" 2>/dev/null || sync
if mkdir blobs 2>/dev/null; then mine blobs; fi
mv -f "$part" @blob@
echo WHOLE
"""

# Ollama removes empty folders below manifests/ whenever it deletes a model (manifest.go PruneDirectory): the folders
# are made and used in one go, and again if they went away in between.
PUBLISH = r"""
new=@stage@/manifest.@token@
cat >"$new"
sum=$(sha256sum <"$new"); sum=${sum%% *}
if [ "$sum" != @hex@ ]; then rm -f "$new"; echo "WRONG $sum"; exit; fi
chmod 644 "$new"; mine "$new"
sync "$new" 2>/dev/null || sync
folder() { if mkdir "$1" 2>/dev/null; then mine "$1"; fi; }
publish() { folder manifests && folder @dir1@ && folder @dir2@ && folder @dir3@ && mv -f "$new" @path@; }
publish 2>/dev/null || publish 2>/dev/null || publish
echo PUBLISHED
"""

REMEMBER = r"""
new=@stage@/recipe.@token@
echo @digest@ >"$new"; chmod 644 "$new"
mv -f "$new" @stage@/recipes/@recipe@
"""

CLOSE = r"""
cd @store@ && read -r holder <@stage@/lock/who && [ "$holder" = @who@ ] && rm -rf @stage@/lock
"""
