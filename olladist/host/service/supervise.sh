#!/bin/sh
# Made by olladist. Keeps one Ollama server running where no systemd does: starts it again when it ends, and bounds its log.
#
#   supervise.sh start DIRECTORY   starts it in a session of its own, apart from the login; needs setsid(1)
#   supervise.sh run DIRECTORY     does the work; ended by TERM
#   supervise.sh stop DIRECTORY    ends it, the server and the server's runners
#
# DIRECTORY holds `env` (what to run and its settings), `pid` and `child` (process id and start time, so that a later
# process with the same id is not taken for it), `restarts`, `log` and `log.1`.
what=$1
dir=$2
grace=${OLLADIST_GRACE:-10} # seconds between TERM and KILL: Ollama ends its runners first

start_of() { # PID: when it began, in clock ticks after boot (field 22 of proc_pid_stat(5)); nothing for a zombie
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  # shellcheck disable=SC2086  # the fields after the name, which may hold blanks
  set -- ${stat##*) }
  case $1 in Z | X) return 1 ;; esac
  shift 19
  echo "$1"
}

recorded() { # NAME: sets pid to the process that the file of this name speaks of, if that still runs
  pid=
  [ -r "$dir/$1" ] && read -r pid began <"$dir/$1" && [ -n "$pid" ] && [ "$(start_of "$pid")" = "$began" ]
}

record() { # NAME PID
  echo "$2 $(start_of "$2")" >"$dir/$1.new" && mv -f "$dir/$1.new" "$dir/$1"
}

group_lives() { # PGID: a process of this group runs; zombies do not count, for where nobody reaps them they stay for ever
  kill -0 "-$1" 2>/dev/null || return 1
  for stat in /proc/[0-9]*/stat; do
    { read -r line <"$stat"; } 2>/dev/null || continue
    # shellcheck disable=SC2086
    set -- "$1" ${line##*) }
    [ "$4" = "$1" ] && [ "$2" != Z ] && [ "$2" != X ] && return 0
  done
  return 1
}

say() { echo "$(date '+%Y-%m-%dT%H:%M:%S%z') olladist: $*" >>"$dir/log"; }

rotate() { # the server keeps the file open, so it is copied and cut (the server appends: it goes on at the new end)
  size=$(wc -c <"$dir/log" 2>/dev/null) || return 0
  [ "$size" -le "${OLLADIST_LOG_BYTES:-10485760}" ] || { cp "$dir/log" "$dir/log.1" && : >"$dir/log"; }
}

# A command and no function: in the background a function would be one process more, and $! not the server's.
if command -v setsid >/dev/null 2>&1; then apart=setsid; else apart='busybox setsid'; fi

start() {
  if recorded pid; then return 0; fi
  rm -f "$dir/pid" "$dir/child" "$dir/restarts"
  . "$dir/env"
  cd / || return 1
  $apart /bin/sh "$0" run "$dir" </dev/null >/dev/null 2>>"$dir/log" &
  tries=0
  until recorded pid; do
    tries=$((tries + 1))
    [ $tries -le 50 ] || { echo 'the supervisor does not start' >&2; return 1; }
    sleep 0.1
  done
}

run() {
  stopping= child=
  trap '' HUP
  trap 'stopping=1; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null' TERM INT
  record pid $$
  (trap - TERM INT; while sleep "${OLLADIST_LOG_EVERY:-30}" && ours; do rotate; done) &
  restarts=0 pause=1
  echo 0 >"$dir/restarts"
  while [ -z "$stopping" ]; do
    ours || end_ourselves
    born=$(date +%s)
    # In a group of its own: a server that is aborted leaves its runners behind, with the GPU's memory in their hands.
    $apart "$OLLADIST_BINARY" serve </dev/null >>"$dir/log" 2>&1 &
    child=$!
    record child $child
    while wait $child; status=$?; kill -0 $child 2>/dev/null; do :; done
    end_group $child
    child=
    [ -z "$stopping" ] || break
    lived=$(($(date +%s) - born))
    [ $lived -lt 60 ] || pause=1
    restarts=$((restarts + 1))
    [ -d "$dir" ] || continue
    echo $restarts >"$dir/restarts"
    say "the server ended with status $status after $lived s; it is started again in $pause s"
    sleep $pause &
    child=$!
    wait $child
    child=
    pause=$((pause * 2))
    [ $pause -le 30 ] || pause=30
  done
  rm -f "$dir/pid" "$dir/child"
  end_ourselves
}

ours() { # false once somebody removed or replaced our files: then the directory is another supervisor's, or nobody's
  recorded pid && [ "$pid" = $$ ]
}

end_ourselves() { # with what is left of our own group: the ticker
  trap '' TERM
  kill -TERM 0
  exit 0
}

end_group() { # PGID: TERM to all of it, KILL to what is there after the grace
  group_lives "$1" || return 0
  kill -TERM "-$1" 2>/dev/null
  until=$(($(date +%s) + grace))
  while group_lives "$1"; do
    now=$(date +%s)
    if [ "$now" -ge $until ]; then kill -KILL "-$1" 2>/dev/null; fi
    [ "$now" -lt $((until + 5)) ] || { echo "process group $1 does not end" >&2; return 1; }
    sleep 0.1
  done
}

stop() {
  supervisor=
  if recorded pid; then
    supervisor=$pid
    kill -TERM "$supervisor" 2>/dev/null
  fi
  # Its server's group is ended from here too: the supervisor may have been killed before.
  if recorded child; then end_group "$pid" || return 1; fi
  if [ -n "$supervisor" ]; then end_group "$supervisor" || return 1; fi
  rm -f "$dir/pid" "$dir/child"
}

case $what in
  start | run | stop) "$what" ;;
  *) echo "usage: $0 start|run|stop DIRECTORY" >&2; exit 2 ;;
esac
