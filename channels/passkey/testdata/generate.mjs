// Makes assertions.json: WebAuthn assertions, good and bad, with the verdicts of an independent implementation,
// @simplewebauthn/server 14.0.3. Run it where that package is installed: node generate.mjs > assertions.json
import { verifyAuthenticationResponse } from '@simplewebauthn/server';
import { cose, isoCBOR } from '@simplewebauthn/server/helpers';
import { createHash, generateKeyPairSync, sign } from 'node:crypto';

const b64 = (b) => Buffer.from(b).toString('base64url');
const sha = (b) => createHash('sha256').update(b).digest();
const statement = { channel: 'dedicated', version: '2026.11.3', digest: 'sha256:' + 'a'.repeat(64), nonce: 'n1' };
const challengeOf = (s) =>
  sha(['sluice approve/1', s.channel, s.version, s.digest, ...(s.nonce ? [s.nonce] : [])].join('\n') + '\n');

function makeKey(alg) {
  const pair = alg === 'ES256' ? generateKeyPairSync('ec', { namedCurve: 'P-256' }) : generateKeyPairSync('ed25519');
  const jwk = pair.publicKey.export({ format: 'jwk' });
  const coseKey = alg === 'ES256'
    ? new Map([[1, 2], [3, -7], [-1, 1], [-2, Buffer.from(jwk.x, 'base64url')], [-3, Buffer.from(jwk.y, 'base64url')]])
    : new Map([[1, 1], [3, -8], [-1, 6], [-2, Buffer.from(jwk.x, 'base64url')]]);
  return { alg, private: pair.privateKey, spki: pair.publicKey.export({ format: 'der', type: 'spki' }),
    cose: isoCBOR.encode(coseKey), id: b64(sha(jwk.x).subarray(0, 16)) };
}

function makeAssertion(key, o = {}) {
  const clientData = Buffer.from(o.clientDataText ?? JSON.stringify({ type: 'webauthn.get',
    challenge: b64(challengeOf(o.statement ?? statement)), origin: 'https://sluice.example:7600', crossOrigin: false,
    ...o.clientData }));
  const counter = Buffer.alloc(4);
  counter.writeUInt32BE(o.counter ?? 7);
  const data = Buffer.concat([sha(o.rpId ?? 'sluice.example'), Buffer.from([o.flags ?? 0x05]), counter,
    o.extensions ?? Buffer.alloc(0)]);
  let signature = sign(key.alg === 'ES256' ? 'sha256' : null, Buffer.concat([data, sha(o.signedClientData ?? clientData)]),
    o.signer?.private ?? key.private);
  if (o.spoil) signature[signature.length - 1] ^= 1;
  if (o.truncate) signature = signature.subarray(0, signature.length - 4);
  return { id: o.id ?? key.id, nonce: statement.nonce, clientDataJSON: b64(clientData),
    authenticatorData: b64(o.cut ? data.subarray(0, 36) : data), signature: b64(signature) };
}

async function verdict(key, a) {
  try {
    const r = await verifyAuthenticationResponse({
      response: { id: a.id, rawId: a.id, type: 'public-key', clientExtensionResults: {}, response: {
        clientDataJSON: a.clientDataJSON, authenticatorData: a.authenticatorData, signature: a.signature } },
      expectedChallenge: b64(challengeOf(statement)), expectedOrigin: 'https://sluice.example:7600',
      expectedRPID: 'sluice.example', requireUserVerification: true,
      credential: { id: key.id, publicKey: key.cose, counter: 0 } });
    return r.verified;
  } catch {
    return false;
  }
}

const cases = {
  'good': {},
  'counter 0, as of synced passkeys': { counter: 0 },
  'backed up': { flags: 0x1d },
  'extensions': { flags: 0x85, extensions: isoCBOR.encode(new Map([['credProtect', 2]])) },
  'further members of client data': { clientData: { other_keys_can_be_added_here: 'x' } },
  'another digest': { statement: { ...statement, digest: 'sha256:' + 'b'.repeat(64) } },
  'another channel': { statement: { ...statement, channel: 'staging' } },
  'another version': { statement: { ...statement, version: '2026.11.4' } },
  'another nonce': { statement: { ...statement, nonce: 'n2' } },
  'another origin': { clientData: { origin: 'https://evil.example' } },
  'another port': { clientData: { origin: 'https://sluice.example' } },
  'a subdomain': { clientData: { origin: 'https://x.sluice.example:7600' } },
  'another host': { rpId: 'evil.example' },
  'a registration': { clientData: { type: 'webauthn.create' } },
  'nobody was there': { flags: 0x04 },
  'the user was not verified': { flags: 0x01 },
  'a spoilt signature': { spoil: true },
  'a cut signature': { truncate: true },
  'cut authenticator data': { cut: true },
  'client data that is no JSON': { clientDataText: 'x' },
  'other client data was signed': { signedClientData: Buffer.from('{}') },
};
const table = [];
for (const alg of ['ES256', 'EdDSA']) {
  const key = makeKey(alg), other = makeKey(alg);
  const all = { ...cases, 'another key under the same id': { signer: other } };
  for (const [name, o] of Object.entries(all)) {
    const assertion = makeAssertion(key, o);
    table.push({ name: `${alg}: ${name}`, key: { id: key.id, publicKey: key.spki.toString('base64'),
      origin: 'https://sluice.example:7600' }, assertion, verified: await verdict(key, assertion) });
  }
}
console.log(JSON.stringify({ statement, table }, null, 1));
