#!/usr/bin/env bash
# Makes docs/transcript.md: what a new user types and sees, by typing it into tmux and reading the screen.
# docs/transcript.sh [CODEX BINARY], in the repository; needs tmux and python3.
set -euo pipefail
codex=$(realpath "${1:-target/release/codex}")
page=$(realpath "$(dirname "$0")")/transcript.md
work=$(mktemp -d)
mux() { tmux -L "transcript-$$" -f /dev/null "$@"; }
trap 'mux kill-server 2>/dev/null; rm -rf "$work"' EXIT
mkdir -p "$work/bin" "$work/there" "$work/here/.codex"
ln -s "$codex" "$work/bin/codex-exec-server"

# The terminal of this name shows these words within 20 s.
shows() {
    for _ in $(seq 200); do
        mux capture-pane -p -S - -t "$1" | grep -qF -- "$2" && return
        sleep 0.1
    done
    echo "terminal $1 does not show: $2" >&2
    mux capture-pane -p -S - -t "$1" >&2
    exit 1
}
# The terminal of this name waits for a command.
ready() {
    for _ in $(seq 200); do
        [ "$(mux capture-pane -p -t "$1" | grep -v '^$' | tail -1)" = '$' ] && return
        sleep 0.1
    done
    echo "terminal $1 does not come back" >&2
    mux capture-pane -p -t "$1" >&2
    exit 1
}
keys() { mux send-keys -t "$1" -l -- "$2"; mux send-keys -t "$1" Enter; }
types() { ready "$1"; keys "$1" "$2"; }
terminal() { # NAME DIRECTORY
    local shell="env -i PATH=$work/bin:/usr/bin:/bin HOME=$2 TERM=screen LANG=C.UTF-8 PS1='\$ ' SHELL=/bin/sh"
    if [ "$1" = first ]; then mux new-session -d -s "$1" -x 100 -y 24 -c "$2" "$shell bash --norc --noprofile"
    else mux new-session -d -s "$1" -x 80 -y 20 -c "$2" "$shell bash --norc --noprofile"; fi
    ready "$1"
}
screen() { # NAME: what its terminal has shown, without empty lines at the end, and without where this ran
    printf '```text\n'
    mux capture-pane -p -J -S - -t "$1" | sed -e "s|$work/there|/srv/app|g; s|$work/here|/home/me|g" -e 's/ *$//' |
        sed -e :a -e '/^\n*$/{$d;N;ba' -e '}'
    printf '```\n'
}
fresh() { mux send-keys -t "$1" C-l; ready "$1"; mux clear-history -t "$1"; }

terminal first "$work/here"
terminal machine "$work/there"
types machine 'codex-exec-server --listen ws://127.0.0.1:4500'
shows machine 'ws://127.0.0.1:4500'

began=$(date +%s%N)
types first 'codex-exec-server env add box ws://127.0.0.1:4500 --use'
types first "echo 'a note' > note"
types first "codex-exec-server cp note box:$work/there/note"
types first "codex-exec-server run -d --name web -w $work/there -- python3 -m http.server 8123"
types first 'codex-exec-server shell --name work'
shows first '~'
keys first "cd $work/there && PS1='box# ' && ls && sleep 1000"
shows first note
mux send-keys -t first 'C-\'
shows first 'left work running'
types first 'codex-exec-server ps'
ready first
one=$(screen first)

terminal second "$work/here"
types second 'codex-exec-server attach work'
shows second 'sleep 1000'
mux send-keys -t second C-c
shows second 'box#'
keys second 'echo found again > answer; exit'
types second "codex-exec-server cp box:$work/there/answer . && cat answer"
ready second
two=$(screen second)

fresh first
keys first 'codex-exec-server port-forward 9123:8123 &'
shows first '127.0.0.1:9123 ->'
keys first 'curl -s http://127.0.0.1:9123/answer'
shows first 'found again'
types first 'codex-exec-server logs web'
types first 'codex-exec-server kill web'
ready first
three=$(screen first)
took=$(( ($(date +%s%N) - began) / 1000000000 ))

cat > "$page" <<PAGE
# From a new machine to work on it

What a new user types and sees, in two terminals of different size. \`docs/transcript.sh\` has typed it into tmux and has read
the screens; it took $took s. On the machine runs \`codex exec-server --listen ws://127.0.0.1:4500\`; that it can be reached at this
address from elsewhere is the work of ssh ([README](../README.md#every-day)).

Name the machine, copy a file there, leave a server running, open a shell, and leave that too, with Ctrl-\\:

$one

In another terminal, later: the shell is found again as it was, at this terminal's size, and a file comes back:

$two

Reach the server that was left running, read what it said, and end it:

$three
PAGE
echo "wrote $page"
