// A second authorization server, which others wrote in another language: `glewlwyd` as Debian has
// it, in a process of its own. Its clients come to it through its own administration.

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

import { GLEWLWYD_CLIENTS } from './clients.mjs';

/** Starts what is unpacked in that directory. Gives the URL of its issuer, and what ends it. */
export async function startGlewlwyd(root) {
  for (let attempts = 3; ; attempts -= 1) {
    const port = await freePort();
    const child = run(root, port);
    const server = `http://127.0.0.1:${port}`;
    if (await isUp(child, server)) {
      await populate(server);
      return { issuer: `${server}/api/oidc`, end: () => child.kill() };
    }
    if (attempts === 1) throw new Error('glewlwyd did not start');
  }
}

/** Somebody else may take it before it is used: then there is another. */
async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

function run(root, port) {
  const [database, configuration] = [join(root, 'database'), join(root, 'configuration')];
  const programs = `${join(root, 'usr/bin')}:${process.env.PATH}`;
  const libraries = ['usr/lib', 'lib'].map((name) => join(root, name)).filter(existsSync)
    .flatMap((folder) => readdirSync(folder).map((name) => join(folder, name)))
    .filter((folder) => folder.includes('-linux-'));
  const env = { ...process.env, PATH: programs, LD_LIBRARY_PATH: libraries.join(':') };
  rmSync(database, { force: true });
  execFileSync('sqlite3', [database], {
    env,
    input: readFileSync(join(root, 'usr/share/dbconfig-common/data/glewlwyd/install/sqlite3')),
  });
  const modules = join(root, 'usr/lib/glewlwyd');
  writeFileSync(configuration, `
    port=${port}
    bind_address="127.0.0.1"
    external_url="http://127.0.0.1:${port}"
    login_url="login.html"
    api_prefix="api"
    log_mode="console"
    log_level="WARNING"
    session_key="session"
    admin_scope="g_admin"
    profile_scope="g_profile"
    hash_algorithm="SHA512"
    user_module_path="${modules}/user"
    client_module_path="${modules}/client"
    user_auth_scheme_module_path="${modules}/scheme"
    plugin_module_path="${modules}/plugin"
    database={ type="sqlite3"; path="${database}"; };
  `);
  // What it says goes where the errors of the other servers go.
  const stdio = ['ignore', process.stderr, process.stderr];
  return spawn('glewlwyd', [`--config-file=${configuration}`], { env, stdio });
}

async function isUp(child, server) {
  const until = Date.now() + 20_000;
  while (child.exitCode === null && Date.now() < until) {
    const answer = await fetch(`${server}/config`).catch(() => undefined);
    if (answer?.ok) return true;
    await pause(20);
  }
  child.kill();
  return false;
}

/** Makes an issuer and its clients, as its administrator. */
async function populate(server) {
  let cookie = '';
  const post = async (path, body) => {
    const headers = { 'content-type': 'application/json', cookie };
    const answer = await fetch(`${server}/api${path}`, {
      method: 'POST', headers, body: JSON.stringify(body),
    });
    if (!answer.ok) throw new Error(`glewlwyd: ${path}: ${answer.status} ${await answer.text()}`);
    return answer;
  };
  // Who its administrator is, until somebody changes it.
  const session = await post('/auth/', { username: 'admin', password: 'password' });
  [cookie] = session.headers.get('set-cookie').split(';');
  await post('/scope/', { name: 'read' });
  await post('/mod/plugin/', {
    module: 'oidc',
    name: 'oidc',
    enabled: true,
    parameters: {
      iss: `${server}/api/oidc`,
      'jwt-type': 'sha',
      'jwt-key-size': '256',
      key: 'what-this-server-signs-its-tokens-with',
      'access-token-duration': 3600,
      'refresh-token-duration': 3600,
      'code-duration': 60,
      'allow-non-oidc': true,
      'auth-type-client-enabled': true,
      // Assertions are taken too.
      'request-parameter-allow': true,
      'client-jwks-parameter': 'jwks',
    },
  });
  for (const client of GLEWLWYD_CLIENTS) await post('/client/', client);
}
