# What `up` and `node` share.
# shellcheck shell=bash

nodes=(a b c)

die() { echo "$0: $*" >&2; exit 1; }

# Does somebody listen on this port of ours?
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# The body of a page of ours; fails unless it is answered with 200.
page() { # PORT PATH
  local line status=
  exec 3<>"/dev/tcp/127.0.0.1/$1" || return 1
  printf 'GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n' "$2" >&3
  while IFS= read -r -t 5 line <&3 && line=${line%$'\r'} && [ -n "$line" ]; do
    [ -n "$status" ] || status=$line
  done
  cat <&3
  exec 3>&-
  [[ $status == 'HTTP/1.1 200 '* ]]
} 2>/dev/null

# Is the process of this pid file there?
runs() { [ -s "$1" ] && kill -0 "$(<"$1")" 2>/dev/null; }

# The ports of one cluster: the first of them says them all.
ports() { # FIRST
  public=$1 simulators=$(($1 + 1)) school=$(($1 + 2))
}
node_port() { echo $((public + 11 + $(index "$1"))); }
admin_port() { echo $((public + 21 + $(index "$1"))); }
cluster_port() { echo $((public + 31 + $(index "$1"))); }
index() {
  local i
  for i in "${!nodes[@]}"; do [ "${nodes[i]}" = "$1" ] && echo "$i" && return; done
  die "no node is called $1: there are ${nodes[*]}"
}
