// Token exchange (RFC 8693). `oidc-provider` has no such grant, but a place for one: the server's
// side of this is ours, and what it issues, keeps, introspects and revokes are its own tokens.

import { errors } from 'oidc-provider';

import { RESOURCES, TOKEN_EXCHANGE } from './clients.mjs';

const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token';
const PARAMS = ['subject_token', 'subject_token_type', 'requested_token_type', 'resource', 'scope'];

export function addTokenExchange(provider) {
  provider.registerGrantType(TOKEN_EXCHANGE, (ctx) => exchange(provider, ctx), PARAMS);
}

async function exchange(provider, ctx) {
  const { client, params } = ctx.oidc;
  if (params.subject_token_type !== ACCESS_TOKEN) {
    throw new errors.InvalidRequest('only access tokens are exchanged');
  }
  if ((params.requested_token_type ?? ACCESS_TOKEN) !== ACCESS_TOKEN) {
    throw new errors.InvalidRequest('only access tokens are issued');
  }
  const subject = await provider.AccessToken.find(params.subject_token ?? '');
  // That is the code that RFC 8693 §2.2.2 has for it.
  if (!subject?.isValid) throw new errors.InvalidRequest('the subject token is not valid');
  if (!RESOURCES.includes(params.resource)) throw new errors.InvalidTarget();

  const token = new provider.AccessToken({
    client,
    accountId: subject.accountId,
    gty: 'token_exchange',
    scope: params.scope,
  });
  token.setAudience(params.resource);
  ctx.oidc.entity('AccessToken', token);
  ctx.body = {
    access_token: await token.save(),
    issued_token_type: ACCESS_TOKEN,
    token_type: token.tokenType,
    expires_in: token.expiration,
  };
}
