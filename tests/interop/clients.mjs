// Who may ask for tokens, and how long theirs live: the tests know them by name.

import { X509Certificate, createPublicKey } from 'node:crypto';
import { readFileSync } from 'node:fs';

export const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';

const machine = (client_id, client_secret, token_endpoint_auth_method = 'client_secret_basic') => ({
  client_id,
  client_secret,
  token_endpoint_auth_method,
  grant_types: ['client_credentials'],
  redirect_uris: [],
  response_types: [],
});

/** Known by its certificate (RFC 8705 §2), to which its tokens are bound. */
const certified = (client_id, token_endpoint_auth_method, registered) => ({
  client_id,
  token_endpoint_auth_method,
  tls_client_certificate_bound_access_tokens: true,
  grant_types: ['client_credentials'],
  redirect_uris: [],
  response_types: [],
  ...registered,
});

const user = (client_id, client_secret) => ({
  client_id,
  client_secret,
  grant_types: ['authorization_code', 'refresh_token'],
  redirect_uris: ['https://client.example.com/back'],
  response_types: ['code'],
});

/** Acts on behalf of users whose tokens it was sent. */
const gateway = (client_id, client_secret) => ({
  ...machine(client_id, client_secret),
  grant_types: [TOKEN_EXCHANGE],
});

/** The public halves of keys for tests. */
const jwks = (names) => ({
  keys: names.map((name) => {
    const pem = readFileSync(`${process.env.INTEROP_KEYS}/${name}.pem`);
    return { ...createPublicKey(pem).export({ format: 'jwk' }), kid: `${name}-1`, use: 'sig' };
  }),
});

/** Proves who it is with one of these keys. */
const signing = (client_id, ...names) => ({
  ...machine(client_id, undefined, 'private_key_jwt'),
  jwks: jwks(names),
});

/** What HS512 may sign with. */
const SHARED = 'a-secret-of-at-least-sixty-four-bytes-which-is-what-hs512-needs!';

const ODD = ' +:%&/ %2B';

export const CLIENTS = [
  machine('basic', 'basic-secret'),
  machine('post', 'post-secret', 'client_secret_post'),
  machine(`basic${ODD}`, `secret${ODD}`),
  machine(`post${ODD}`, `secret${ODD}`, 'client_secret_post'),
  machine('cold', 'cold-secret'),
  machine('revoked', 'revoked-secret'),
  machine('brief', 'brief-secret'),
  machine('patient', 'patient-secret'),
  machine('forgotten', 'forgotten-secret'),
  machine('late', 'late-secret'),
  machine('tls', 'tls-secret'),
  machine('jwt', 'jwt-secret'),
  machine('issuer', 'issuer-secret'),
  signing('rsa', 'rsa'),
  signing('p256', 'p256'),
  signing('p384', 'p384'),
  signing('ed25519', 'ed25519'),
  signing('turning', 'p256', 'ed25519'),
  signing('half', 'p256'),
  signing('once', 'p256'),
  signing('strict', 'p256'),
  signing('astray', 'p256'),
  { ...user('proven'), token_endpoint_auth_method: 'private_key_jwt', jwks: jwks(['p256']) },
  machine('shared', SHARED, 'client_secret_jwt'),
  user('rotating', 'rotating-secret'),
  user('stolen', 'stolen-secret'),
  user('unlucky', 'unlucky-secret'),
  user('fleet-redis', 'fleet-redis-secret'),
  user('fleet-files', 'fleet-files-secret'),
  user('fleet-lenient', 'fleet-lenient-secret'),
  user('frontend', 'frontend-secret'),
  gateway('gateway', 'gateway-secret'),
  gateway('crowded', 'crowded-secret'),
];

/** The path of the issuer whose clients show certificates. */
export const MUTUAL = '/mutual';

/** Those clients; `selfSigned`: the certificate, in PEM, that one of them has made itself. */
export const certifiedClients = (selfSigned) => {
  const { publicKey, raw } = new X509Certificate(selfSigned);
  const jwk = { ...publicKey.export({ format: 'jwk' }), x5c: [raw.toString('base64')] };
  const byName = { tls_client_auth_san_dns: 'client.example.com' };
  return [
    machine('mutual-basic', 'mutual-basic-secret'),
    certified('mutual', 'tls_client_auth', byName),
    certified('mutual-renewed', 'tls_client_auth', byName),
    certified('mutual-self', 'self_signed_tls_client_auth', { jwks: { keys: [jwk] } }),
  ];
};

/** For so many seconds a refresh token is good for another exchange after its first, as with services
 * that reckon with lost answers. */
export const LEEWAYS = { 'fleet-lenient': 30 };

/** In seconds. */
export const LIFETIMES = { brief: 3, patient: 20, turning: 3, half: 20 };

/** The API that introspects, as a client. */
export const API_CLIENT = machine('api', 'api-secret');

/** The APIs that users' tokens are exchanged for, as resources: each by its path. */
export const RESOURCES = ['https://api.example.com/orders', 'https://api.example.com/billing'];

/** The API that takes JWTs, as a resource. */
export const JWT_API = 'https://api.example.com/jwt';

/** What they are to the second server, in its own words. */
const glewlwydClient = (client_id, method, registered) => ({
  client_id,
  confidential: true,
  enabled: true,
  scope: ['read'],
  authorization_type: ['client_credentials'],
  token_endpoint_auth_method: [method],
  ...registered,
});

export const GLEWLWYD_CLIENTS = [
  ...['rsa', 'p256', 'ed25519'].map((name) => (
    glewlwydClient(name, 'private_key_jwt', { jwks: jwks([name]) })
  )),
  glewlwydClient('shared', 'client_secret_jwt', { client_secret: SHARED }),
];
