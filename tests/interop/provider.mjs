// The authorization server: `oidc-provider` as it comes, configured, in a process of its own,
// so that it can be killed. Beside it, under /admin, what a test wants to see and to do.

import Provider, { errors } from 'oidc-provider';

import { Adapter } from './adapter.mjs';
import {
  API_CLIENT, CLIENTS, JWT_API, LIFETIMES, MUTUAL, certifiedClients,
} from './clients.mjs';
import { addTokenExchange } from './exchange.mjs';
import { listen, routes } from './http.mjs';

process.once('message', start);
// Nobody is left to end this process.
process.once('disconnect', () => process.exit());

async function start({ tls, keys, ports, selfSigned }) {
  let handler;
  const bound = await listen((request, response) => handler(request, response), tls, ports);
  const provider = new Provider(`http://127.0.0.1:${bound[0]}`, configuration(keys));
  addTokenExchange(provider);
  const mutual = new Provider(
    `https://127.0.0.1:${bound[1]}${MUTUAL}`,
    withCertificates(configuration(keys), selfSigned),
  );
  const admin = routes(administration(provider, watch(provider, mutual)));
  const serve = provider.callback();
  const serveMutual = mounted(MUTUAL, mutual.callback());
  handler = (request, response) => {
    // Else it says what time it really is.
    if (ahead) response.setHeader('date', new Date(Date.now()).toUTCString());
    if (request.url.startsWith('/admin/')) return admin(request, response);
    if (request.url.startsWith(`${MUTUAL}/`)) return serveMutual(request, response);
    if (cutsNext && request.url === '/token') cut(response);
    return serve(request, response);
  };
  process.send(bound);
}

let cutsNext = false;

/** By how many milliseconds the clock of this server is ahead. */
let ahead = 0;
const { now } = Date;
Date.now = () => now() + ahead;

/** Has the request served, and the connection broken in place of the answer. */
function cut(response) {
  cutsNext = false;
  response.end = () => response.socket.destroy();
}

const SIGNING_ALGORITHMS = [
  'HS256', 'HS384', 'HS512', 'RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512',
  'ES256', 'ES384', 'EdDSA',
];

function configuration(keys) {
  return {
    adapter: Adapter,
    clients: [...CLIENTS, API_CLIENT],
    jwks: { keys },
    // A token is dead when its time is over.
    clockTolerance: 0,
    // An assertion is for the issuer and for nobody else (draft-ietf-oauth-rfc7523bis §4).
    assertJwtClientAuthClaimsAndHeader(ctx, claims, header) {
      if (claims.aud !== ctx.oidc.issuer) throw new errors.InvalidClientAuth('not for the issuer');
      if (header.typ !== 'client-authentication+jwt') throw new errors.InvalidClientAuth('typ');
    },
    enabledJWA: { clientAuthSigningAlgValues: SIGNING_ALGORITHMS },
    scopes: ['offline_access', 'read'],
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    rotateRefreshToken: true,
    ttl: {
      AccessToken: 3600,
      ClientCredentials: (_, __, client) => LIFETIMES[client.clientId] ?? 3600,
      Grant: 86_400,
      RefreshToken: 86_400,
    },
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      introspection: {
        enabled: true,
        allowedPolicy: (_, client) => client.clientId === API_CLIENT.client_id,
      },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: () => ({
          scope: 'read',
          audience: JWT_API,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: 'RS256' } },
        }),
      },
    },
  };
}

/** A second issuer, whose clients are known by their certificates, and tokens bound to them. */
function withCertificates({ features, ...others }, selfSigned) {
  const shown = (ctx) => ctx.req.socket.getPeerX509Certificate?.();
  return {
    ...others,
    clients: [...certifiedClients(selfSigned), API_CLIENT],
    clientAuthMethods: ['client_secret_basic', 'tls_client_auth', 'self_signed_tls_client_auth'],
    features: {
      ...features,
      mTLS: {
        enabled: true,
        tlsClientAuth: true,
        selfSignedTlsClientAuth: true,
        certificateBoundAccessTokens: true,
        getCertificate: (ctx) => shown(ctx)?.toString(),
        certificateAuthorized: (ctx) => ctx.req.socket.authorized,
        certificateSubjectMatches: (ctx, property, expected) => (
          property === 'tls_client_auth_san_dns' && shown(ctx).checkHost(expected) !== undefined
        ),
      },
    },
  };
}

/** Serves what is below a path, and nothing that stands before it. */
function mounted(path, serve) {
  return (request, response) => {
    request.originalUrl = request.url;
    request.url = request.url.slice(path.length);
    return serve(request, response);
  };
}

/** Counts, for each client, the token requests that were granted and refused, and notes how
 * the client said who it is. */
function watch(...providers) {
  const seen = new Map();
  const of = (id) => {
    if (!seen.has(id)) seen.set(id, { granted: 0, refused: [], auth: null });
    return seen.get(id);
  };
  for (const provider of providers) {
    provider.on('grant.success', (ctx) => {
      const client = of(ctx.oidc.client.clientId);
      client.granted += 1;
      client.auth = howProven(ctx);
    });
    provider.on('grant.error', (ctx, error) => {
      of(ctx.oidc.client?.clientId).refused.push(error.error_detail ?? error.message);
    });
    provider.on('server_error', (_, error) => console.error(error));
  }
  return of;
}

function howProven(ctx) {
  if (ctx.headers.authorization) return 'basic';
  const assertion = ctx.oidc.params.client_assertion;
  if (!assertion) return 'post';
  return JSON.parse(Buffer.from(assertion.split('.')[0], 'base64url')).alg;
}

function administration(provider, seen) {
  const client = (url) => provider.Client.find(url.searchParams.get('client'));
  return {
    'GET /admin/seen': (url) => ({ body: seen(url.searchParams.get('client')) }),
    // The refresh token of a user who has logged in and consented.
    'POST /admin/login': async (url) => {
      const owner = { client: await client(url), accountId: 'alice' };
      const grant = new provider.Grant({ clientId: owner.client.clientId, accountId: 'alice' });
      grant.addOIDCScope('offline_access');
      const grantId = await grant.save();
      const login = { ...owner, grantId, scope: 'offline_access', gty: 'authorization_code' };
      return { body: { refresh_token: await new provider.RefreshToken(login).save() } };
    },
    // The token that a user's browser sends to the gateway.
    'POST /admin/visit': async (url) => {
      const frontend = await provider.Client.find('frontend');
      const token = new provider.AccessToken({
        client: frontend,
        accountId: url.searchParams.get('user'),
        gty: 'authorization_code',
      });
      return { body: { access_token: await token.save() } };
    },
    // The end of one access token. The revocation endpoint would end the family with it.
    'POST /admin/forget': async (url) => {
      const token = await provider.AccessToken.find(url.searchParams.get('token'));
      await token?.destroy();
    },
    // The clock of this server is ahead by so many seconds.
    'POST /admin/clock': (url) => { ahead = 1000 * url.searchParams.get('ahead'); },
    // The answer to the next token request is lost on its way.
    'POST /admin/cut': () => { cutsNext = true; },
  };
}
