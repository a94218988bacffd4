// The protected API, which asks the authorization server about every token; and beside it,
// under /control, what kills that server and starts it again.
//
// node server.mjs <directory with the certificates> <directory where glewlwyd is unpacked>
//
// It says `name=value` a line, then `ready`, and ends when its standard input does.

import { fork } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import * as jose from 'jose';

import { API_CLIENT, JWT_API, MUTUAL, RESOURCES } from './clients.mjs';
import { startGlewlwyd } from './glewlwyd.mjs';
import { listen, routes } from './http.mjs';

const pem = (name) => readFileSync(join(process.argv[2], name), 'utf8');
// Clients are asked for a certificate. Who has none, or one of another authority, gets in too: it is
// for each request to say whether that will do.
const tls = {
  cert: pem('server.pem'),
  key: pem('server.key'),
  ca: pem('clients.pem'),
  requestCert: true,
  rejectUnauthorized: false,
};
// The keys are kept here: tokens that were signed before a restart stay good.
const pair = await jose.generateKeyPair('RS256', { extractable: true });
const keys = [{ ...await jose.exportJWK(pair.privateKey), use: 'sig', alg: 'RS256', kid: 'k1' }];

// ===== The authorization server =====

let provider;
let ports;
let issuer;

async function start() {
  provider = fork(new URL('provider.mjs', import.meta.url));
  provider.send({ tls, keys, ports, selfSigned: pem('selfsigned.pem') });
  [ports] = await once(provider, 'message');
  issuer = `http://127.0.0.1:${ports[0]}`;
}

async function kill() {
  if (provider.exitCode !== null || provider.signalCode !== null) return;
  const ended = once(provider, 'exit');
  provider.kill('SIGKILL');
  await ended;
}

// ===== The API: RFC 6750 §3, and RFC 7662 or RFC 9068 behind it =====

const basic = `Basic ${btoa(`${API_CLIENT.client_id}:${API_CLIENT.client_secret}`)}`;

async function introspect(token, path = '') {
  const answer = await fetch(`${issuer}${path}/token/introspection`, {
    method: 'POST',
    headers: { authorization: basic },
    body: new URLSearchParams({ token }),
  });
  if (!answer.ok) throw new Error(`introspection: ${answer.status}`);
  return answer.json();
}

const isActive = async (token) => (await introspect(token)).active;

/** A token that is bound to a certificate comes over a connection that shows it (RFC 8705 §3). */
async function isBound(token, request) {
  const { active, cnf } = await introspect(token, MUTUAL);
  const shown = request.socket.getPeerCertificate?.()?.raw;
  const thumbprint = shown && createHash('sha256').update(shown).digest('base64url');
  return active && cnf?.['x5t#S256'] === thumbprint;
}

/** How many calls came with the token of another user, or for another API, than they said. */
let strangers = 0;

function isOfUser(resource) {
  return async (token, request) => {
    const { active, sub, aud } = await introspect(token);
    if (!active) return false;
    if (sub === request.headers['x-user'] && aud === resource) return true;
    strangers += 1;
    return false;
  };
}

let published;

async function verify(token) {
  published ??= jose.createRemoteJWKSet(new URL(`${issuer}/jwks`));
  const expected = { issuer, audience: JWT_API, typ: 'at+jwt', algorithms: ['RS256'] };
  return jose.jwtVerify(token, published, expected).then(() => true, (error) => {
    if (error.code?.startsWith('ERR_J')) return false;
    throw error;
  });
}

/** Answers whoever has a good token, and challenges everybody else. */
function protectedBy(isGood) {
  return async (_, request) => {
    const [, token] = /^Bearer ([\w.~+/=-]+)$/i.exec(request.headers.authorization) ?? [];
    // Who brings nothing is told nothing more (RFC 6750 §3.1).
    if (!token) return unauthorized('Bearer realm="interop"');
    await turnstile.pass();
    if (await isGood(token, request)) return { body: { hello: 'world' } };
    return unauthorized('Bearer realm="interop", error="invalid_token", '
      + 'error_description="The access token expired, or was revoked"');
  };
}

function unauthorized(challenge) {
  return { status: 401, headers: { 'www-authenticate': challenge } };
}

// ===== A turnstile, to have many calls in flight for certain =====

const turnstile = {
  expected: 0,
  waiting: [],
  /** Makes the next calls wait. */
  hold(count) {
    this.expected = count;
    this.complete = new Promise((resolve) => { this.isComplete = resolve; });
  },
  /** Lets them go on. */
  release() {
    this.expected = 0;
    this.waiting.splice(0).forEach((go) => go());
  },
  async pass() {
    if (this.expected === 0) return;
    this.expected -= 1;
    if (this.expected === 0) this.isComplete();
    await new Promise((go) => this.waiting.push(go));
  },
};

// ===== Start =====

const second = await startGlewlwyd(process.argv[3]);
await start();
const bound = await listen(routes({
  'GET /introspected': protectedBy(isActive),
  'GET /jwt': protectedBy(verify),
  'GET /bound': protectedBy(isBound),
  ...Object.fromEntries(RESOURCES.map((resource) => (
    [`GET ${new URL(resource).pathname}`, protectedBy(isOfUser(resource))]
  ))),
  'GET /control/strangers': () => ({ body: { strangers } }),
  'POST /control/kill': kill,
  'POST /control/start': start,
  'POST /control/hold': (url) => turnstile.hold(Number(url.searchParams.get('count'))),
  'GET /control/held': () => turnstile.complete,
  'POST /control/release': () => turnstile.release(),
}), tls);

const end = async () => {
  second.end();
  await kill();
  process.exit();
};
process.once('SIGTERM', end);
process.stdin.resume().once('end', end);
console.log(`AUTH=http://127.0.0.1:${ports[0]}
AUTH_TLS=https://127.0.0.1:${ports[1]}
API=http://127.0.0.1:${bound[0]}
API_TLS=https://127.0.0.1:${bound[1]}
GLEWLWYD=${second.issuer}
ready`);
