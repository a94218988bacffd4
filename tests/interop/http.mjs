// What both servers need of HTTP.

import { once } from 'node:events';
import http from 'node:http';
import https from 'node:https';

/** Listens with and without TLS on loopback; port 0 is any free one. Gives the ports. */
export async function listen(handler, tls, ports = [0, 0]) {
  const servers = [http.createServer(handler), https.createServer(tls, handler)];
  return Promise.all(servers.map(async (server, nth) => {
    // Else an idle connection is closed just when a client takes it up again.
    server.keepAliveTimeout = 0;
    server.listen(ports[nth], '127.0.0.1', 1024);
    await once(server, 'listening');
    return server.address().port;
  }));
}

/** A handler out of `{ 'GET /path': async (url, request) => ({ status, headers, body }) }`. */
export function routes(table) {
  return async (request, response) => {
    const url = new URL(request.url, 'http://localhost');
    const answer = table[`${request.method} ${url.pathname}`] ?? (() => ({ status: 404 }));
    try {
      const { status = 200, headers = {}, body = {} } = (await answer(url, request)) ?? {};
      response.writeHead(status, { 'content-type': 'application/json', ...headers });
      response.end(JSON.stringify(body));
    } catch (error) {
      console.error(error);
      response.writeHead(503).end();
    }
  };
}
