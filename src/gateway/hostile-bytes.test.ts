// What a sandbox sends is parsed here by hand: a DNS packet and a ClientHello. Real ones, then damaged ones.
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { clientHello, encryptedHello, queryFor, withExtensions } from '../../test/peers/gateway-world.ts';
import { addressRules } from './addresses.ts';
import { readClientHello } from './client-hello.ts';
import { answerDns } from './dns.ts';
import { FakeAddresses } from './fake-addresses.ts';

function damaged(bytes: Buffer) {
  const change = fc.record({ at: fc.nat(bytes.length - 1), to: fc.nat(255) });
  return fc.tuple(fc.array(change, { maxLength: 6 }), fc.nat(bytes.length)).map(([changes, length]) => {
    const copy = Buffer.from(bytes);
    for (const { at, to } of changes) copy[at] = to;
    return length % 3 === 0 ? copy.subarray(0, length) : copy;
  });
}

describe('the resolver', () => {
  const resolve = (name: string) => (name === 'a.example' ? '198.18.0.7' : null);

  it('gives A, an empty AAAA, and REFUSED for every other name and type', () => {
    const status = (packet: Buffer) => {
      const answer = answerDns(packet, resolve);
      return answer && [answer.readUInt16BE(2) & 15, answer.readUInt16BE(6)];
    };
    expect(status(queryFor('a.example'))).toEqual([0, 1]);
    expect(status(queryFor('A.eXample'))).toEqual([0, 1]);
    expect(status(queryFor('a.example', 28))).toEqual([0, 0]);
    for (const type of [2, 5, 12, 15, 16, 33, 64, 65, 252, 255]) {
      expect(status(queryFor('a.example', type)), `type ${type}`).toEqual([5, 0]);
    }
    expect(status(queryFor('b.example'))).toEqual([5, 0]);
    expect(status(queryFor('sec ret.a.example'))).toEqual([5, 0]);
    expect([...(answerDns(queryFor('a.example'), resolve) ?? Buffer.alloc(0)).subarray(-4)]).toEqual([
      198, 18, 0, 7,
    ]);
  });

  it('drops what is no query of one question', () => {
    const query = queryFor('a.example');
    const changed = (at: number, to: number) => {
      const copy = Buffer.from(query);
      copy[at] = to;
      return answerDns(copy, resolve);
    };
    expect(changed(2, 0x81)).toBeNull();
    expect(changed(5, 0)).toBeNull();
    expect(changed(5, 2)).toBeNull();
    expect(changed(12, 0xc0)).toBeNull();
    expect(changed(12, 63)).toBeNull();
    expect(answerDns(Buffer.alloc(0), resolve)).toBeNull();
    expect(answerDns(Buffer.concat([query, Buffer.alloc(2_000)]), resolve)).toBeNull();
  });

  it('survives damaged packets, and asks only for well-formed names', () => {
    const asked: string[] = [];
    const spy = (name: string) => {
      asked.push(name);
      return null;
    };
    fc.assert(
      fc.property(damaged(queryFor('www.a.example')), (packet) => void answerDns(packet, spy)),
      { numRuns: 5_000 },
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => void answerDns(Buffer.from(bytes), spy)),
    );
    expect(asked.length).toBeGreaterThan(100);
    expect(asked.every((name) => /^[a-z0-9_.-]{1,253}$/.test(name))).toBe(true);
  });

  it('never gives one address to two names, and stops when its table is full', () => {
    const table = new FakeAddresses(1_000);
    const given = Array.from({ length: 1_000 }, (_, at) => table.addressOf(`n${at}.example`));
    expect(new Set(given).size).toBe(1_000);
    expect(table.addressOf('one.more')).toBeNull();
    expect(table.addressOf('n5.example')).toBe(given[5]);
    expect(table.nameOf(given[5] ?? '')).toBe('n5.example');
    expect(given.every((address) => /^198\.1[89]\./.test(address ?? ''))).toBe(true);
  });
});

describe('a ClientHello', () => {
  let hello: Buffer;
  beforeAll(async () => {
    hello = await clientHello('Files.Example');
  });

  function inRecords(whole: Buffer, size: number): Buffer {
    const body = whole.subarray(5);
    const records: Buffer[] = [];
    for (let at = 0; at < body.length; at += size) {
      const part = body.subarray(at, at + size);
      records.push(Buffer.from([22, 3, 1, part.length >>> 8, part.length & 255]), part);
    }
    return Buffer.concat(records);
  }

  it('of a real client is read, whole, byte by byte, and in many records', () => {
    const read = {
      state: 'hello',
      hello: { serverName: 'files.example', encrypted: false, alpn: ['h2', 'http/1.1'] },
    };
    expect(readClientHello(hello)).toEqual(read);
    expect(readClientHello(inRecords(hello, 100))).toEqual(read);
    for (let length = 0; length < hello.length; length += 1) {
      expect(readClientHello(hello.subarray(0, length)).state).toBe('more');
    }
    expect(readClientHello(inRecords(hello, 1)).state).toBe('bad');
  });

  it('with an encrypted hello inside says so; with two names, or a name of odd bytes, is bad', () => {
    const encrypted = readClientHello(withExtensions(hello, encryptedHello));
    expect(encrypted).toMatchObject({ state: 'hello', hello: { encrypted: true } });
    const second = Buffer.from([0, 0, 0, 6, 0, 4, 0, 0, 1, 0x61]);
    expect(readClientHello(withExtensions(hello, second)).state).toBe('bad');
    const odd = Buffer.from(hello);
    odd[odd.indexOf('Files.Example') + 5] = 0;
    expect(readClientHello(odd).state).toBe('bad');
  });

  it('that is damaged is more, bad, or a hello with a plain name; never an exception', () => {
    fc.assert(
      fc.property(damaged(hello), (bytes) => {
        const reading = readClientHello(bytes);
        if (reading.state === 'hello') expect(reading.hello.serverName ?? 'a').toMatch(/^[a-z0-9_.-]+$/);
      }),
      { numRuns: 5_000 },
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 500 }), (bytes) => void readClientHello(Buffer.from(bytes))),
    );
    const endless = inRecords(
      Buffer.concat([Buffer.alloc(5), Buffer.from([1, 0, 255, 255]), Buffer.alloc(60_000)]),
      16_000,
    );
    expect(readClientHello(endless).state).toBe('bad');
  });
});

describe('an address', () => {
  const rules = addressRules();
  it.each([
    ...[
      '0.0.0.0',
      '10.1.2.3',
      '100.64.0.1',
      '100.100.100.200',
      '127.0.0.1',
      '127.255.255.255',
      '169.254.169.254',
    ],
    ...[
      '172.16.0.1',
      '172.31.255.255',
      '192.0.0.192',
      '192.168.1.1',
      '198.18.0.1',
      '198.19.255.255',
      '224.0.0.1',
    ],
    ...[
      '255.255.255.255',
      '168.63.129.16',
      '::',
      '::1',
      '::ffff:127.0.0.1',
      '::ffff:7f00:1',
      '::ffff:808:808',
      '::7f00:1',
    ],
    ...[
      '64:ff9b::7f00:1',
      '64:ff9b:1::1',
      '2002:7f00:1::',
      '2001::1',
      '2001:db8::1',
      'fc00::1',
      'fd00:ec2::254',
    ],
    ...['fe80::1', 'fe80::1%eth0', 'fec0::1', 'ff02::1', '100::1', '5f00::1', 'nonsense', ''],
  ])('%s may not be dialled', (address) => {
    expect(rules.mayDial(address)).toBe(false);
  });

  it.each(['1.1.1.1', '172.32.0.1', '100.128.0.1', '2606:4700::1111', '2a00:1450::1'])(
    '%s may',
    (address) => {
      expect(rules.mayDial(address)).toBe(true);
    },
  );

  it('that an operator allows may be dialled, and no other beside it', () => {
    const wider = addressRules(['10.1.0.0/16', 'fd00::/8']);
    expect(wider.mayDial('10.1.9.9')).toBe(true);
    expect(wider.mayDial('10.2.0.1')).toBe(false);
    expect(wider.mayDial('fd12::1')).toBe(true);
    expect(wider.mayDial('::ffff:10.1.0.1')).toBe(false);
    for (const text of ['10.1.0.0', '10.1.0.0/33', 'x/8', '10.0.0.0/8/8'])
      expect(() => addressRules([text])).toThrow();
  });
});
