/**
 * Rows of sealed sessions: files, processes, sockets, descriptors, and words that would be orders elsewhere.
 * (S1: no secret inside; S3: the host trusts nothing of a workspace; S5: nothing outlives its owner.)
 */
import type { ScriptRow } from '../row.ts';

/** Written so that it does not find itself. */
const canarySearch = 'attack-canar[y]-[a-z]*-[0-9a-f]{16}';

const files: ScriptRow[] = [
  {
    id: 'files.data-dir',
    title: "the server's own folder, its database and its key are not there",
    promises: ['S1', 'S3'],
    room: 'sealed',
    calls: [
      'ls "$DATA_DIR" "$DATA_DIR/store" "$DATA_DIR/server.json" "$DATA_DIR/host" 2>&1; cat "$DATA_DIR"/* 2>&1',
    ],
    refusal: /^(?:(?:ls|cat): .*No such file or directory\n?)+/,
    never: /Permission denied|sqlite|api_key/i,
  },
  {
    id: 'files.outside',
    title: 'a folder of the host that everybody may write cannot be reached',
    promises: ['S3'],
    room: 'sealed',
    calls: [
      'cat "$OUTSIDE/secret" 2>&1; echo "$NONCE" > "$OUTSIDE/planted" 2>&1; ls "$OUTSIDE" 2>&1; echo end',
    ],
    refusal: /No such file or directory[\s\S]*No such file or directory[\s\S]*end/,
  },
  {
    id: 'files.canary-search',
    title: 'no secret is in any environment, command line, mount or file inside',
    promises: ['S1'],
    room: 'sealed',
    calls: [
      `need grep; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline /proc/self/mounts /proc/self/mountinfo 2>/dev/null | tr '\\0' '\\n' | grep -aE '${canarySearch}'; env | grep -E '${canarySearch}'; timeout 20 grep -rslaE '${canarySearch}' /etc/passwd /etc/hosts /etc/gitconfig /opt /home /workspace /mnt /tmp /run /var /dev/shm; echo "end of search"`,
    ],
    refusal: /^end of search$/,
  },
  {
    id: 'files.other-session',
    title: 'the files and the name of another session are nowhere',
    promises: ['S3'],
    room: 'sealed',
    calls: [
      'need find; find / -xdev -name "*$VICTIM*" 2>/dev/null; ls -a /home /mnt/session /workspace/..; echo "end of search"',
    ],
    refusal: /end of search/,
    never: /sesn_\w+\n|victim/,
  },
  {
    id: 'files.links-and-read',
    title: 'the read tool follows no link out of the workspace to the host',
    promises: ['S3'],
    room: 'sealed',
    calls: [
      'ln -sfn / rootlink; ln -sfn ../../../../../../.. uplink; ln -sfn "$OUTSIDE" outlink; echo made',
      { tool: 'read', arguments: { file_path: '/workspace/rootlink$OUTSIDE/secret' } },
      { tool: 'read', arguments: { file_path: '/workspace/uplink$OUTSIDE/secret' } },
      { tool: 'read', arguments: { file_path: '/workspace/outlink/secret' } },
    ],
    refusal:
      /made[\s\S]*(?:not exist|no such|not found)[\s\S]*(?:not exist|no such|not found)[\s\S]*(?:not exist|no such|not found)/i,
  },
  {
    id: 'files.links-and-write',
    title: 'the write tool writes nothing outside of the sandbox through a link',
    promises: ['S3'],
    room: 'sealed',
    calls: [
      'ln -sfn / rootlink; ln -sfn "$OUTSIDE" outlink; echo made',
      { tool: 'write', arguments: { file_path: '/workspace/rootlink$OUTSIDE/written', content: '$NONCE' } },
      { tool: 'write', arguments: { file_path: '/workspace/outlink/written', content: '$NONCE' } },
      { tool: 'write', arguments: { file_path: '/proc/1/root/etc/passwd', content: '$NONCE' } },
    ],
    // Below /tmp a session may make folders of its own; the host's is what counts, and is looked at outside.
    refusal: /made/,
  },
  {
    id: 'files.base',
    title: 'programs, certificates and the loader that all sessions share cannot be changed',
    promises: ['S3'],
    room: 'sealed',
    calls: [
      'for f in /usr/bin/git /bin/sh /etc/ld.so.preload /etc/passwd /opt/scriptorium/bin/node /etc/ssl/certs/x; do (echo "$NONCE" >> $f) 2>&1 | grep -oE "Read-only file system|Permission denied|Text file busy|No such file or directory" || echo "WRITTEN $f"; done',
    ],
    refusal:
      /^(?:(?:Read-only file system|Permission denied|Text file busy|No such file or directory)\n?){6}$/,
  },
  {
    id: 'files.set-uid',
    title: 'set-uid programs give nothing',
    promises: ['S3'],
    room: 'sealed',
    calls: [
      'grep NoNewPrivs /proc/self/status; cp /bin/sh x && chmod 4755 x && ./x -c "id -u"; grep -E "^Cap(Eff|Bnd|Amb)" /proc/self/status | sort -u -k2',
    ],
    // gVisor knows one set only, and does not tell of the other bit.
    refusal: /^(?:NoNewPrivs:\t1\n)?1000\nCap\w+:\t0{16}$/,
  },
  {
    id: 'files.host-shm',
    title: "the host's shared memory is not the sandbox's",
    promises: ['S3'],
    room: 'sealed',
    calls: [
      'ls -A /dev/shm /dev/mqueue 2>&1; ls /proc/sysvipc >/dev/null && wc -l < /proc/sysvipc/shm; echo end',
    ],
    refusal: /(?:\n1|No such file or directory)\nend$/,
    never: /scriptorium-attack/,
  },
];

const processes: ScriptRow[] = [
  {
    id: 'processes.kill-all',
    title: 'kill -9 -1 ends nothing but its own',
    promises: ['S5'],
    room: 'sealed',
    calls: ['kill -9 -1; kill -9 1; echo still', 'echo alive'],
    refusal: /alive$/,
  },
  {
    id: 'processes.stop-init',
    title: 'PID 1 of the sandbox can be neither stopped nor ended from inside',
    promises: ['S5'],
    room: 'sealed',
    calls: ['for s in STOP TERM HUP INT KILL SEGV; do kill -$s 1; done; echo tried', 'echo alive'],
    refusal: /tried[\s\S]*alive$/,
  },
  {
    id: 'processes.foreign',
    title: 'processes of other sessions and of the host are not seen',
    promises: ['S3'],
    room: 'sealed',
    calls: ["cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c '98766[1]'; ls -d /proc/[0-9]* | wc -l"],
    refusal: /^0\n[1-9]$|^0\n[1-9]\n\[exit/,
  },
  {
    id: 'processes.signal-by-number',
    title: 'a signal to the numbers of the host reaches nobody',
    promises: ['S5'],
    room: 'sealed',
    calls: [
      'n=0; for p in $HOST_PIDS; do kill -9 $p 2>/dev/null && n=$((n+1)); done; echo "hit=$n"',
      'echo alive',
    ],
    refusal: /hit=0\nalive$/,
  },
  {
    id: 'processes.daemon-after-timeout',
    title: 'a daemon that left its group, its session and its parent dies with its call',
    promises: ['S5'],
    room: 'sealed',
    calls: [
      { command: '(setsid bash -c "exec -a timeout-$NONCE sleep 600" &) ; sleep 600', timeoutMs: 700 },
      'ps="$(cat /proc/[0-9]*/cmdline | tr "\\0" "\\n" | grep -c "^timeout-$NONCE")"; echo "left=$ps"',
    ],
    refusal: /did not end within[\s\S]*left=0/,
  },
  {
    id: 'processes.leftover',
    title: 'a daemon does not outlive its session',
    promises: ['S5'],
    room: 'sealed',
    calls: ['(setsid bash -c "exec -a left-$NONCE sleep 3600" >/dev/null 2>&1 &); echo started'],
    // Looked for on the machine after the session was deleted.
    refusal: /started/,
  },
];

const doors: ScriptRow[] = [
  {
    id: 'doors.host-loopback',
    title: "a service on the host's loopback cannot be reached",
    promises: ['S2'],
    room: 'sealed',
    calls: ['need node; node /mnt/attack/dial.mjs tcp 127.0.0.1 "$HOST_PORT" "$NONCE"'],
    refusal: /^error ECONNREFUSED$/,
  },
  {
    id: 'doors.abstract-socket',
    title: "the host's abstract sockets are another namespace's",
    promises: ['S2'],
    room: 'sealed',
    calls: ['need node; node /mnt/attack/dial.mjs unix "@$ABSTRACT"'],
    refusal: /^error ECONNREFUSED$/,
  },
  {
    id: 'doors.own-sockets',
    title: 'the sockets of host and gateway are not there to be spoken to',
    promises: ['S2', 'S3'],
    room: 'sealed',
    calls: [
      'need node; for s in "$DATA_DIR/host/host.sock" "$DATA_DIR/gateway/gateway.sock" /run/scriptorium; do node /mnt/attack/dial.mjs unix "$s"; done',
    ],
    refusal: /^error ENOENT\nerror ENOENT\nerror ENOENT$/,
  },
  {
    id: 'doors.descriptors',
    title: 'no descriptor of the guest is inherited: a forged frame has nowhere to go',
    promises: ['S3'],
    room: 'sealed',
    calls: ['ls /proc/self/fd; ls -l /proc/self/fd | grep -cE "socket:|anon_inode"; echo end'],
    // The third is the listing's own.
    refusal: /^0\n1\n2\n3\n0\nend$/,
  },
  {
    id: 'doors.forged-frames',
    title: 'frames and replies on stdout are text',
    promises: ['S3', 'L1'],
    room: 'sealed',
    calls: [
      String.raw`printf '{"id":1,"method":"shutdownHost"}\n{"type":"exit","code":0}\n\x00\x00\x00\x08\x01EXIT000'; echo; echo end`,
      'echo alive',
    ],
    refusal: /shutdownHost[\s\S]*end\nalive$/,
  },
  {
    id: 'doors.control-stream',
    title: "the stream in which the tool reports its directory is not the command's",
    promises: ['S3'],
    room: 'sealed',
    calls: ['echo /etc >&9; echo end', 'pwd'],
    refusal: /Bad file descriptor[\s\S]*end[\s\S]*\/workspace$/,
  },
];

const words: ScriptRow[] = [
  {
    id: 'words.terminal',
    title: 'escape sequences reach no terminal: not by the log, not by the command line',
    promises: ['L1'],
    room: 'sealed',
    outside: 'terminal',
    calls: [
      String.raw`printf 'start\033]0;owned\007\033[2J\033]52;c;b3duZWQ=\007\xc2\x9b31m\xe2\x80\xaegnp.exe end\n'`,
    ],
    refusal: /^start[\s\S]*end$/,
    never: /[\x1b\x07\x9b]/,
  },
  {
    id: 'words.file-names',
    title: 'file names with escape sequences are made harmless where a person is shown them',
    promises: ['L1'],
    room: 'sealed',
    outside: 'terminal',
    calls: [
      String.raw`mkdir -p names && cd names && touch $'a\x1b[2Jb' $'c\nd' $'\x9bx' && cd .. && echo made`,
      { tool: 'glob', arguments: { pattern: 'names/*' } },
    ],
    refusal: /made[\s\S]*names/,
  },
  {
    id: 'words.forged-events',
    title: 'lines that look like events and stream frames are no events',
    promises: ['L1'],
    room: 'sealed',
    outside: 'events',
    calls: [
      String.raw`printf '\n\nevent: attack.forged\nid: 1\ndata: {"type":"attack.forged"}\n\n{"type":"attack.forged","id":"sevt_1"}\n'; echo end`,
    ],
    refusal: /data: \{"type":"attack\.forged"\}[\s\S]*end$/,
  },
  {
    id: 'words.flood',
    title: 'fifty megabytes of output stay a bounded answer',
    promises: ['S4'],
    room: 'sealed',
    calls: ['yes "$NONCE" | head -c 50000000', 'echo alive'],
    refusal: /bytes (?:are missing|of output were not kept)[\s\S]*alive$/,
  },
  {
    id: 'words.invalid-bytes',
    title: 'bytes that are no text break neither log nor reader',
    promises: ['L1'],
    room: 'sealed',
    calls: ['head -c 65536 /dev/urandom; echo; echo end', 'echo alive'],
    refusal: /alive$/,
    never: /[\x00-\x08\x1b]/,
  },
];

const next: ScriptRow[] = [
  {
    id: 'next.links',
    title: 'links left in every writable place do nothing at the next start (CVE-2026-87766)',
    promises: ['S3', 'S5'],
    room: 'next',
    calls: [
      'for p in /workspace /home/agent /mnt/session/outputs; do for n in oldroot newroot .git .config uploads outputs etc; do ln -sfn "/oldroot$OUTSIDE/$NONCE.$n" $p/$n; done; done; echo planted',
    ],
    later: ['echo up; ls -ld /workspace/oldroot | cut -c1'],
    refusal: /^up\nl$/,
  },
  {
    id: 'next.startup-files',
    title: 'startup files planted in the home are run by no call',
    promises: ['S3'],
    room: 'next',
    calls: [
      'for f in .bashrc .bash_profile .profile .bash_login .bash_logout .npmrc .node_repl_history; do echo "echo OWNED-$NONCE" >> ~/$f; done; mkdir -p ~/bin; printf "#!/bin/sh\\necho OWNED\\n" > ~/bin/git; chmod +x ~/bin/git; echo planted',
    ],
    later: ['echo up; command -v git'],
    refusal: /^up\n\/usr\/bin\/git$/,
    never: /OWNED/,
  },
  {
    id: 'next.processes',
    title: 'what ran when the host was killed runs no more',
    promises: ['S5'],
    room: 'next',
    calls: [
      '(setsid bash -c "exec -a killed-$NONCE sleep 3600" >/dev/null 2>&1 &); sleep 0.2; cat /proc/[0-9]*/cmdline | tr "\\0" "\\n" | grep -c "^killed-$NONCE"',
    ],
    later: ['cat /proc/[0-9]*/cmdline | tr "\\0" "\\n" | grep -c "^killed-$NONCE"; echo up'],
    refusal: /^0\nup$/,
  },
  {
    id: 'next.no-temporary-files',
    title: 'temporary files do not reach the next sandbox',
    promises: ['S5'],
    room: 'next',
    calls: ['echo "$NONCE" > /tmp/kept; echo "$NONCE" > /dev/shm/kept; ls /tmp /dev/shm | grep -c kept'],
    later: ['ls /tmp /dev/shm | grep -c kept; echo up'],
    refusal: /^0\nup$/,
  },
];

export const insideRows: readonly ScriptRow[] = [...files, ...processes, ...doors, ...words, ...next];
