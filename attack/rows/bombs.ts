/** Rows that take more than they should get: each stops at its limit, alone, and its session goes on (S4, S5). */
import type { ScriptRow } from '../row.ts';

export const bombRows: readonly ScriptRow[] = [
  {
    id: 'bombs.forks',
    title: 'processes are bounded',
    promises: ['S4'],
    room: 'bombs',
    calls: ['/mnt/attack/bombs forks 400', 'echo alive'],
    refusal: /^refused EAGAIN at 1\d\d\n[\s\S]*alive$/,
  },
  {
    id: 'bombs.memory',
    title: 'memory is bounded, and the bomb is ended alone',
    promises: ['S4'],
    room: 'bombs',
    calls: ['/mnt/attack/bombs memory 900', 'echo alive'],
    refusal:
      /(?:Killed|ran out of memory|memory limit|killed by SIGKILL|exit code: 137|refused ENOMEM)[\s\S]*alive$/,
    never: /unbounded/,
  },
  {
    id: 'bombs.memfd',
    title: 'memory that is in no process is bounded, too',
    promises: ['S4'],
    room: 'bombs',
    weakAsUser: 'Without root and cgroups memory is bounded per process (docs/design/sandbox.md)',
    calls: ['/mnt/attack/bombs memfd 900', 'echo alive'],
    refusal:
      /(?:Killed|r[au]n out of memory|memory limit|killed by SIGKILL|exit code: 137|refused (?:ENOMEM|EFBIG|ENOSPC))[\s\S]*alive$/,
    never: /unbounded/,
  },
  ...['/tmp', '/dev/shm'].map(
    (place): ScriptRow => ({
      id: `bombs.tmpfs${place.replaceAll('/', '-')}`,
      title: `${place} fills up at its size`,
      promises: ['S4'],
      room: 'bombs',
      calls: [`head -c 300000000 /dev/zero > ${place}/big; wc -c < ${place}/big; rm -f ${place}/big`],
      refusal: /No space left on device\n[12]\d{8}$/,
    }),
  ),
  {
    id: 'bombs.file',
    title: 'one file stops growing at its limit',
    promises: ['S4'],
    room: 'bombs',
    calls: ['truncate -s 3G big && echo first; truncate -s 5G big; rm -f big; echo end'],
    refusal: /^first\n.*(?:File too large|File size limit exceeded)[\s\S]*end$/,
  },
  {
    id: 'bombs.disk',
    title: 'the disk of the machine cannot be filled by one session',
    promises: ['S4'],
    room: 'bombs',
    weakAsUser: 'Without root there is no disk quota (docs/design/disks.md)',
    calls: ['/mnt/attack/bombs disk 1280; rm -f bomb.*'],
    refusal: /^refused (?:ENOSPC|EDQUOT) at \d+$/,
  },
  {
    id: 'bombs.descriptors',
    title: 'open files are bounded',
    promises: ['S4'],
    room: 'bombs',
    calls: ['/mnt/attack/bombs files 100000'],
    refusal: /^refused EMFILE at \d+$/,
  },
  {
    id: 'bombs.deep-tree',
    title: 'a tree too deep for a path is removed with its session',
    promises: ['S5'],
    room: 'bombs',
    outside: 'disk',
    calls: [
      'need perl; perl -e \'for (1..3000) { mkdir "d" x 50; chdir "d" x 50 or die }; symlink "/", "root"; print "made\\n"\'',
    ],
    // Whether the disk is gone is looked at after the session was deleted.
    refusal: /^made$/,
  },
];
