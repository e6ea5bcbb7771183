// A key and a self-signed certificate (X.509 v3) for the name localhost: Node
// reads certificates and makes none.
import { generateKeyPairSync, randomBytes, sign } from 'node:crypto';

function der(tag, ...parts) {
  const body = Buffer.concat(parts);
  const n = body.length;
  const head = n < 128 ? [tag, n] : n < 256 ? [tag, 0x81, n] : [tag, 0x82, n >> 8, n & 255];
  return Buffer.concat([Buffer.from(head), body]);
}

const sequence = (...parts) => der(0x30, ...parts);
const oid = (hex) => der(0x06, Buffer.from(hex, 'hex'));
const text = (tag, s) => der(tag, Buffer.from(s));
const bits = (b) => der(0x03, Buffer.of(0), b);
const extension = (id, value) => sequence(oid(id), der(0x04, value));

export function selfSigned() {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const algorithm = sequence(oid('2a8648ce3d040302')); // ecdsa-with-SHA256
  const serial = Buffer.concat([Buffer.of(1), randomBytes(15)]); // positive, without leading zeros
  const name = sequence(der(0x31, sequence(oid('550403'), text(0x0c, 'localhost')))); // commonName
  const begin = new Date(Date.now() - 60_000).toISOString().replace(/\D/g, '').slice(2, 14);
  const body = sequence(
    der(0xa0, der(0x02, Buffer.of(2))), // v3
    der(0x02, serial),
    algorithm,
    name,
    sequence(text(0x17, `${begin}Z`), text(0x18, '99991231235959Z')), // without an end: it dies with the process
    name,
    publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa3, sequence(
      extension('551d11', sequence(text(0x82, 'localhost'))), // subjectAltName: a dNSName
      extension('551d25', sequence(oid('2b06010505070301'))), // extendedKeyUsage: serverAuth
    )),
  );
  const bytes = sequence(body, algorithm, bits(sign('sha256', body, privateKey)));
  const base64 = bytes.toString('base64');
  return {
    key: Buffer.from(privateKey.export({ type: 'pkcs8', format: 'pem' })),
    pem: Buffer.from(`-----BEGIN CERTIFICATE-----\n${base64.replace(/(.{64})/g, '$1\n')}\n-----END CERTIFICATE-----\n`),
    line: base64.replace(/=+$/, ''), // as the handshake wants it
  };
}
