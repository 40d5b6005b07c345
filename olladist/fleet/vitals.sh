# Signs of life of one host, for `olladist status`: what can be read in a few milliseconds, and changes nothing.
#
#   vitals.sh STORE "PORT NAME"...     STORE "" where the inventory names none; NAME is that of the server's unit
#
# Output as facts.sh has it: "@name words" begins a section, every line of its content follows a "|".
store=$1
shift
uid=$(id -u)
LC_ALL=C
export LC_ALL
if command -v timeout >/dev/null 2>&1; then within='timeout 5'; else within=; fi

lines() { while IFS= read -r line || [ -n "$line" ]; do printf '|%s\n' "$line"; done; }

units() { # SCOPE COMMAND...: all units in one call
  scope=$1
  shift
  shown=$($within "$@" show -p Id,LoadState,ActiveState,NRestarts,FragmentPath,Environment $names 2>/dev/null </dev/null) || return 0
  echo "@units $scope"
  printf '%s\n' "$shown" | lines
  case $shown in *OLLAMA_MODELS=*) found=${shown#*OLLAMA_MODELS=}; found=${found%%[\" ]*}; store=${store:-${found%%
*}} ;; esac
}

names=
for server in "$@"; do names="$names ${server#* }.service"; done

echo '@olladist-vitals 1'
for prefix in /opt/olladist "$HOME/.local/share/olladist"; do
  for server in "$@"; do
    d=$prefix/run/${server%% *}
    [ -d "$d" ] || continue
    echo "@detached ${server%% *}"
    alive=no pid=
    [ ! -r "$d/pid" ] || read -r pid rest <"$d/pid"
    # A pid of another process than ours: its command line does not name the directory.
    [ -z "$pid" ] || [ ! -r "/proc/$pid/cmdline" ] || case $(tr '\0' ' ' <"/proc/$pid/cmdline") in *"$d"*) alive=yes ;; esac
    echo "|alive=$alive"
    [ ! -r "$d/env" ] || lines <"$d/env"
    store=${store:-$HOME/.ollama/models}
  done
done
if [ -d /run/systemd/system ]; then
  [ ! -d "/run/user/$uid/systemd" ] || { XDG_RUNTIME_DIR=/run/user/$uid; export XDG_RUNTIME_DIR; units user systemctl --user; }
  units system systemctl
fi

if [ -e /dev/nvidiactl ] || [ -e /dev/dxg ]; then
  echo '@nvidia'
  smi=$(command -v nvidia-smi || echo /usr/lib/wsl/lib/nvidia-smi)
  $within "$smi" --query-gpu=name,memory.used,memory.total --format=csv,noheader,nounits 2>&1 </dev/null | lines
fi
for total in /sys/class/drm/card*/device/mem_info_vram_total; do
  [ -r "$total" ] || continue
  read -r all <"$total"
  read -r used <"${total%total}used"
  echo "@amd"
  echo "|$used $all"
done

above=${store:-$HOME}
while [ ! -d "$above" ] && [ "$above" != / ] && [ -n "$above" ]; do above=${above%/*}; done
echo '@disk'
df -Pk "${above:-/}" 2>/dev/null | lines
echo '@done'
