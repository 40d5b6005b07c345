# Reads what olladist must know of a host and changes nothing. POSIX sh; busybox and dash are enough.
#
#   sh -c "$this" facts login  USER UID HOME STORE PORT...   what only the login user can see: its own systemd, its own files
#   sh -c "$this" facts host   USER UID HOME STORE PORT...   the rest, as root where that can be had
#
# Output: "@name words" begins a section, every line of its content follows a "|". A part that ran to its end says so.
part=$1 user=$2 uid=$3 home=$4 store=$5
shift 5
PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
me=$(id -u)
# A driver that hangs must not hang us.
if command -v timeout >/dev/null 2>&1; then within='timeout 15'; else within=; fi

fact() { # NAME COMMAND...
  echo "@$1"
  shift
  "$@" </dev/null 2>/dev/null | awk '{ n += length($0) + 1; if (n > 65536) exit; print "|" $0 }'
}

has() { command -v "$1" >/dev/null 2>&1; }

# ---- what may be Ollama ----

binary() { # PATH
  [ -f "$1" ] && [ -x "$1" ] || return 0
  real=$(readlink -f "$1")
  case " $seen " in *" $1 "*) return 0 ;; esac
  seen="$seen $1"
  echo "@binary $1"
  echo "|real=$real"
  owner=$(ls -ldn "$real" | awk '{ print $3 }')
  echo "|owner=$owner"
  # Two names of one file need one answer.
  case " $seen_real " in *" $real "*) return 0 ;; esac
  seen_real="$seen_real $real"
  # As root nothing is run that somebody else could have written. Port 9 (discard): the client's own version is asked for.
  if [ "$me" != 0 ] || [ "$owner" = 0 ]; then
    env -i PATH="$PATH" HOME=/nonexistent OLLAMA_HOST=127.0.0.1:9 $within "$1" --version </dev/null 2>&1 |
      head -n 5 | cut -c 1-200 | awk '{ print "|version=" $0 }'
  fi
  # Package managers take their time to say that they know nothing of our own files.
  case $real in */olladist/releases/*) return 0 ;; esac
  for word in $(package_of "$real"); do echo "|package=$word"; done
}

package_of() { # FILE
  if has dpkg; then dpkg -S "$1" 2>/dev/null | sed -n '1s/: .*//p'; fi
  if has pacman; then pacman -Qqo "$1" 2>/dev/null; fi
  if has apk; then apk info -qW "$1" 2>/dev/null; fi
  if has rpm && ! has dpkg; then rpm -qf --qf '%{NAME}\n' "$1" 2>/dev/null | grep -v ' '; fi
}

process() { # PID
  case " $seen_pids " in *" $1 "*) return 0 ;; esac
  seen_pids="$seen_pids $1"
  line=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
  echo "@process $1"
  echo "|stat=${line##*) }"
  echo "|comm=$(cat "/proc/$1/comm" 2>/dev/null)"
  echo "|user=$(ls -ld "/proc/$1" 2>/dev/null | awk '{ print $3 }')"
  echo "|exe=$(readlink "/proc/$1/exe" 2>/dev/null)"
  tr '\0\n' '  ' <"/proc/$1/cmdline" 2>/dev/null | cut -c 1-300 | awk '{ print "|command=" $0 }'
  sed 's/^/|cgroup=/' "/proc/$1/cgroup" 2>/dev/null | head -n 20
  if [ -r "/proc/$1/environ" ] && environ=$(tr '\0' '\n' <"/proc/$1/environ" 2>/dev/null); then
    echo '|environ=yes'
    echo "$environ" | grep -E '^(OLLAMA_[A-Z_]*|OLLADIST_[A-Z_]*|HOME)=' | grep -v _KEY= | head -n 100 | sed 's/^/|env=/'
  fi
}

ctl() { # system|user WORDS...
  scope=$1
  shift
  if [ "$scope" = user ]; then
    XDG_RUNTIME_DIR=/run/user/$uid $within systemctl --user "$@"
  else
    $within systemctl "$@"
  fi
}

units() { # system|user DIRECTORY...
  kind=$1
  shift
  for name in $(for d in "$@"; do ls "$d" 2>/dev/null; done | grep -E '^(snap\.)?ollama[A-Za-z0-9._-]*\.service$' | sort -u); do
    fact "unit $kind $name" ctl "$kind" show "$name" \
      -p LoadState,FragmentPath,DropInPaths,ActiveState,SubState,UnitFileState,NeedDaemonReload,MainPID,NRestarts,User,Group,Result
    pid=$(ctl "$kind" show "$name" -p MainPID 2>/dev/null </dev/null | sed -n 's/^MainPID=//p')
    [ "${pid:-0}" = 0 ] || process "$pid"
    for d in "$@"; do
      for f in "$d/$name" "$d/$name.d"/*.conf; do
        [ -f "$f" ] || continue
        fact "file $f" cat "$f"
        for e in $(sed -n 's/^EnvironmentFile=-\{0,1\}//p' "$f" 2>/dev/null); do
          fact "environment-file $e" grep -E '^(export )?(OLLAMA_[A-Z_]*|HOME|CUDA_VISIBLE_DEVICES|HIP_VISIBLE_DEVICES|ROCR_VISIBLE_DEVICES)=' "$e"
        done
        binary "$(sed -n 's/^ExecStart=[-@:+!]*"\{0,1\}\([^ "]*\).*/\1/p' "$f" 2>/dev/null | tail -n 1)"
      done
    done
  done
}

prefix() { # DIRECTORY where we install
  [ -d "$1" ] || return 0
  echo "@prefix $1"
  echo "|current=$(readlink "$1/current" 2>/dev/null)"
  for f in "$1"/releases/*; do [ ! -d "$f" ] || echo "|release=${f##*/}"; done
  for f in "$1"/stage/*; do [ ! -e "$f" ] || echo "|stage=${f##*/}"; done
  for f in "$1"/.made-*; do [ ! -e "$f" ] || echo "|made=${f##*/.made-}"; done
  fact sha256 sha256sum "$1"/supervise.sh "$1"/run/*/env
  binary "$1/current/bin/ollama"
  for d in "$1"/run/*; do
    [ -d "$d" ] || continue
    echo "@detached $d"
    [ ! -r "$d/restarts" ] || echo "|restarts=$(head -n 1 "$d/restarts")"
    pids=
    for name in pid child; do
      [ -r "$d/$name" ] && read -r pid start <"$d/$name" || continue
      echo "|$name=$pid"
      echo "|${name}_start=$start"
      pids="$pids $pid"
    done
    for pid in $pids; do process "$pid"; done
  done
}

path() { # PATH: what it is, and the file system that it is or would be on
  case " $seen_paths " in *" $1 "*) return 0 ;; esac
  seen_paths="$seen_paths $1"
  above=$1
  while [ ! -d "$above" ] && [ "$above" != / ]; do above=$(dirname "$above"); done
  echo "@path $1"
  echo "|above=$(cd "$above" 2>/dev/null && pwd -P)"
  if [ -L "$1" ]; then echo "|link=$(readlink "$1")"; fi
  if [ -e "$1" ] || [ -L "$1" ]; then
    ls -ld "$1" 2>/dev/null | awk '{ print "|mode=" $1; print "|owner=" $3; print "|group=" $4 }'
  fi
  [ ! -w "$above" ] || echo '|writable=yes'
  $within df -Pk "$above" 2>/dev/null | awk 'NR > 1 { print "|free_kib=" $(NF - 2) }'
}

# ---- the login user's part ----

sudo_kind() {
  if [ "$me" = 0 ]; then echo root; return; fi
  if ! has sudo; then echo none; echo 'sudo is not installed'; return; fi
  if why=$(sudo -k -n true 2>&1); then echo passwordless; return; fi
  # Whether somebody may use sudo with a password is a question that sudo answers only to the password. The groups that
  # distributions grant it to are the best guess there is.
  case "$why" in
    *password*) case " $(id -nG) " in *' sudo '* | *' wheel '* | *' admin '*) echo password ;; *) echo unknown ;; esac ;;
    *) echo none ;;
  esac
  echo "$why"
}

can_linger() {
  [ "$me" != 0 ] || { echo yes; return; }
  has pkcheck && $within pkcheck --action-id org.freedesktop.login1.set-self-linger --process $$ && echo yes
}

login_part() {
  echo '@login'
  echo "|user=$user"
  echo "|uid=$uid"
  echo "|home=$home"
  fact sudo sudo_kind
  if has systemctl && [ -d /run/systemd/system ]; then
    fact user-systemd ctl user is-system-running
    fact linger loginctl show-user "$user" -p Linger
    [ ! -e "/var/lib/systemd/linger/$user" ] || fact linger echo Linger=yes
    fact can-linger can_linger
    units user "$home/.config/systemd/user"
    fact sha256 sha256sum "$home"/.config/systemd/user/ollama*.service "$home"/.config/systemd/user/ollama*.service.d/50-olladist.*
  fi
  for p in "$home/.local/share/olladist" "$home/.ollama/models" "$home/.local/bin/ollama"; do path "$p"; done
  [ -z "$store" ] || path "$store"
  prefix "$home/.local/share/olladist"
  binary "$home/.local/bin/ollama"
  binary "$home/bin/ollama"
  # A server that this user started by hand: its environment is this user's to read.
  ollama_processes
}

ollama_processes() {
  for f in /proc/[0-9]*/comm; do
    { read -r comm <"$f"; } 2>/dev/null || continue
    case $comm in ollama*) ;; *) continue ;; esac
    p=${f#/proc/}
    p=${p%/comm}
    case "$(tr '\0' ' ' <"/proc/$p/cmdline" 2>/dev/null)" in *serve*) process "$p" ;; esac
  done
}

# ---- the host's part ----

listeners() { # "address:port uid inode" of every listening TCP socket, in the kernel's hexadecimal
  awk '$4 == "0A" { print $2, $8, $10 }' /proc/net/tcp /proc/net/tcp6
}

owners() { # PORT...: "pid inode" of the sockets that listen on these ports
  wanted=
  for port in "$@"; do wanted="$wanted $(printf %04X "$port")"; done
  inodes=$(listeners 2>/dev/null | awk -v wanted="$wanted" '
    BEGIN { n = split(wanted, w, " "); for (i = 1; i <= n; i++) want[w[i]] = 1 }
    { m = split($1, a, ":"); if (a[m] in want) print "socket:[" $3 "]" }')
  [ -n "$inodes" ] || return 0
  ls -l /proc/[0-9]*/fd 2>/dev/null | awk -v inodes="$(echo $inodes)" '
    BEGIN { n = split(inodes, w, " "); for (i = 1; i <= n; i++) want[w[i]] = 1 }
    /^\/proc\// { split($0, a, "/"); pid = a[3] }
    $NF in want { gsub(/[^0-9]/, "", $NF); print pid, $NF }'
}

pci_displays() { # vendor and device of everything of class 03 (display)
  for d in /sys/bus/pci/devices/*; do
    read -r class <"$d/class" && read -r vendor <"$d/vendor" && read -r device <"$d/device" || continue
    case $class in 0x03*) echo "$vendor $device" ;; esac
  done
}

gpu_devices() {
  for f in /dev/nvidiactl /dev/dxg /dev/kfd /dev/nvhost-gpu /dev/nvgpu; do [ ! -e "$f" ] || echo "$f"; done
}

with_status() { # COMMAND...: its output and errors, then how it ended
  $within "$@" 2>&1
  echo "status=$?"
}

gpu_tools() {
  smi=$(command -v nvidia-smi || ls /usr/lib/wsl/lib/nvidia-smi 2>/dev/null)
  if [ -n "$smi" ]; then
    fact nvidia-smi with_status "$smi" --query-gpu=index,uuid,name,memory.total,memory.free,driver_version --format=csv,noheader,nounits
  fi
  fact nvidia-proc cat /proc/driver/nvidia/version /proc/driver/nvidia/gpus/*/information
  fact tegra cat /etc/nv_tegra_release
  [ ! -r /proc/device-tree/model ] || { echo '@board'; tr '\0' '\n' </proc/device-tree/model | head -n 1 | awk '{ print "|" $0 }'; }
  [ -e /dev/kfd ] || return 0
  if has amd-smi; then
    fact amd-smi-static with_status amd-smi static --asic --vram --driver --json
    fact amd-smi-memory with_status amd-smi metric --mem-usage --json
  elif has rocm-smi; then
    fact rocm-smi with_status rocm-smi --showproductname --showmeminfo vram --showuniqueid --showdriverversion --json
  fi
  fact kfd kfd_nodes
}

kfd_nodes() { # a line per node of the kernel's own list, which is ROCm's order: "simd_count=… unique_id=… vram=…"
  for d in /sys/class/kfd/kfd/topology/nodes/*; do
    echo "node=${d##*/} $(awk '$1 == "simd_count" || $1 == "unique_id" || $1 == "gfx_target_version" { printf "%s=%s ", $1, $2 }' "$d/properties")vram=$(cat "$d"/mem_banks/*/properties | awk '$1 == "heap_type" { h = $2 } $1 == "size_in_bytes" && (h == 1 || h == 2) { s += $2 } END { printf "%.0f", s }')"
  done
}

tools() {
  for t in zstd gzip tar setsid busybox sha256sum useradd usermod systemctl journalctl curl; do
    if has "$t"; then echo "$t"; fi
  done
  if has busybox && busybox setsid true; then echo busybox-setsid; fi
}

host_part() {
  echo '@host'
  echo "|uid=$me"
  fact uname uname -s
  fact kernel uname -r
  fact machine uname -m
  fact hostname uname -n
  fact os cat /etc/os-release
  fact clock awk '$1 == "btime" { print "btime=" $2 }' /proc/stat
  fact clock getconf CLK_TCK
  fact memory awk '$1 == "MemTotal:" { print "total_kib=" $2 }' /proc/meminfo
  fact memory-limit cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes
  fact init cat /proc/1/comm
  if has systemctl && [ -d /run/systemd/system ]; then
    fact systemd ctl system is-system-running
    fact kills-user-processes busctl get-property org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager KillUserProcesses
  fi
  fact tools tools
  fact mounts awk '{ o = "," $4 ","; print $2, (o ~ /,ro,/ ? "ro" : "rw") (o ~ /,noexec,/ ? ",noexec" : "") }' /proc/self/mounts
  fact accounts awk -F: '{ print $1 ":" $3 ":" $4 ":" $6 }' /etc/passwd
  fact groups grep -E '^(ollama|render|video):' /etc/group
  if [ -e /usr/share/ollama/.made-by-olladist ]; then fact made echo user; fi
  fact gpu-devices gpu_devices
  fact pci-displays pci_displays
  gpu_tools
  units system /etc/systemd/system /run/systemd/system /usr/local/lib/systemd/system /usr/lib/systemd/system /lib/systemd/system
  fact sha256 sha256sum /etc/systemd/system/ollama*.service /etc/systemd/system/ollama*.service.d/50-olladist.*
  prefix /opt/olladist
  for p in /usr/local/bin/ollama /usr/bin/ollama /bin/ollama /opt/ollama/bin/ollama /snap/bin/ollama; do binary "$p"; done
  ollama_processes
  fact listeners listeners
  fact owners owners "$@"
  for p in $(owners "$@" 2>/dev/null | awk '{ print $1 }'); do process "$p"; done
  for p in /opt/olladist /usr/local/bin/ollama /usr/share/ollama/.ollama/models; do path "$p"; done
  [ -z "$store" ] || path "$store"
  for p in $(stores); do path "$p"; done
}

stores() { # where units and their users may keep models
  for d in /etc/systemd/system /usr/local/lib/systemd/system /usr/lib/systemd/system /lib/systemd/system; do
    for f in "$d"/ollama*.service "$d"/ollama*.service.d/*.conf; do
      [ -f "$f" ] || continue
      sed -n 's/.*OLLAMA_MODELS=\([^" ]*\).*/\1/p; s/.*[" =]HOME=\([^" ]*\).*/\1\/.ollama\/models/p' "$f"
      for who in $(sed -n 's/^User=//p' "$f"); do awk -F: -v who="$who" '$1 == who { print $6 "/.ollama/models" }' /etc/passwd; done
    done
  done 2>/dev/null | sort -u
}

seen= seen_real= seen_pids= seen_paths=
echo '@olladist-facts 1'
if [ "$part" = login ]; then login_part "$@"; else host_part "$@"; fi
echo "@done $part"
