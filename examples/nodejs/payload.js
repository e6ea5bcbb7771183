// Payloads (msgpack), identifiers (Bech32m) and the headers of records.
import { createHash } from 'node:crypto';
import { decode, encode } from '@msgpack/msgpack';

const MAX_DEPTH = 32;
const GROWTH = 16, FLOOR = 1 << 20; // a payload's values may take GROWTH times its bytes, plus FLOOR
const SCALAR = 16, CONTAINER = 64; // what V8 takes for one, roughly

// toPayload gives the bytes of a value; undefined and null are no bytes.
export function toPayload(value) {
  return value == null ? Buffer.alloc(0) : encode(value, { sortKeys: true, ignoreUndefined: true, maxDepth: MAX_DEPTH + 1 });
}

// fromPayload decodes what may come from a stranger, whose few bytes must not
// become many objects.
export function fromPayload(bytes) {
  if (bytes.length === 0) return undefined;
  check(bytes);
  return decode(bytes);
}

function check(b) {
  let memory = FLOOR + GROWTH * b.length;
  let at = 0;
  const more = (n) => { at += n; return b.length >= at ? at - n : fail('it ends too early'); };
  const uint = (n) => b.readUIntBE(more(n), n);
  const fail = (why) => { throw new Error(why); };
  const take = (n) => { if ((memory -= n) < 0) fail('it holds too many values'); };
  const item = (depth) => {
    take(SCALAR);
    const t = b[more(1)];
    let inner = 0;
    if (t < 0x80 || t >= 0xe0) return;
    else if (t < 0x90) inner = (t & 15) * 2;
    else if (t < 0xa0) inner = t & 15;
    else if (t < 0xc0) more(t & 31);
    else if (t < 0xc4) return t === 0xc1 && fail('0xc1 is no msgpack');
    else if (t < 0xc7) more(uint(1 << t - 0xc4)); // bin
    else if (t < 0xca) more(uint(1 << t - 0xc7) + 1); // ext
    else if (t < 0xcc) more(4 << t - 0xca); // float
    else if (t < 0xd0) more(1 << t - 0xcc); // uint
    else if (t < 0xd4) more(1 << t - 0xd0); // int
    else if (t < 0xd9) more((1 << t - 0xd4) + 1); // fixext
    else if (t < 0xdc) more(uint(1 << t - 0xd9)); // str
    else inner = uint(t & 1 ? 4 : 2) * (t < 0xde ? 1 : 2);
    if (t < 0xa0 || t >= 0xdc) take(CONTAINER);
    if (inner > 0 && depth >= MAX_DEPTH) fail('it is nested too deep');
    for (; inner > 0; inner--) item(depth + 1);
  };
  b = Buffer.from(b.buffer, b.byteOffset, b.length);
  item(0);
}

// Bech32m (BIP-350): a prefix that says what it is, 32 bytes, a checksum.
const ALPHABET = 'qpzry9x8gf2tvdw0s3jn54khce6mua7l';
const GENERATOR = [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3];
const BECH32M = 0x2bc830a3;

function polymod(prefix, values) {
  const codes = [...prefix].map((c) => c.charCodeAt(0));
  let sum = 1;
  for (const v of [...codes.map((c) => c >> 5), 0, ...codes.map((c) => c & 31), ...values]) {
    const top = sum >>> 25;
    sum = (sum & 0x1ffffff) << 5 ^ v;
    GENERATOR.forEach((g, i) => { if (top >> i & 1) sum ^= g; });
  }
  return sum;
}

function regroup(values, from, to, pad) {
  const out = [];
  let acc = 0, bits = 0;
  for (const v of values) {
    acc = (acc << from | v) & 0xfff;
    for (bits += from; bits >= to;) out.push(acc >> (bits -= to) & (1 << to) - 1);
  }
  if (pad && bits > 0) out.push(acc << to - bits & (1 << to) - 1);
  else if (!pad && acc & (1 << bits) - 1) throw new Error('not an identifier: its last bits are not 0');
  return out;
}

// idText is the text form of 32 bytes: prefix is agent, hash or dna.
export function idText(prefix, bytes) {
  const data = regroup(bytes, 8, 5, true);
  const sum = polymod(prefix, [...data, 0, 0, 0, 0, 0, 0]) ^ BECH32M;
  const check = [25, 20, 15, 10, 5, 0].map((shift) => sum >> shift & 31);
  return `${prefix}1${[...data, ...check].map((v) => ALPHABET[v]).join('')}`;
}

// idBytes reads a text form, and says what is wrong with it.
export function idBytes(prefix, text) {
  const data = typeof text === 'string' && text.startsWith(`${prefix}1`) ? text.slice(prefix.length + 1) : '';
  const values = [...data].map((c) => ALPHABET.indexOf(c));
  if (values.length !== 58 || values.includes(-1)) throw new Error(`not an identifier of the form ${prefix}1… with 58 characters`);
  if (polymod(prefix, values) !== BECH32M) throw new Error('not an identifier: its checksum is wrong');
  const bytes = Buffer.from(regroup(values.slice(0, 52), 5, 8, false));
  if (prefix === 'agent' && bytes[31] & 0x80) throw new Error('not an agent: the sign bit of the key is 1');
  return bytes;
}

// header makes a record's header readable: docs/chain.md.
export function header(h) {
  return {
    seq: Number(h.readBigUInt64BE(65)),
    author: idText('agent', h.subarray(33, 65)),
    time: new Date(Number(h.readBigInt64BE(105) / 1000n)),
    public: h[114] === 1,
    hash: idText('hash', h.subarray(164, 196)), // of the entry: what commit gives
    record: idText('hash', createHash('sha256').update(h).digest()), // what get takes
    type: h.toString('utf8', 197),
  };
}

// record is a record with its entry's value; undefined where that was withheld.
export function record(r) {
  return { ...header(r.header), value: r.content == null ? undefined : fromPayload(r.content) };
}
