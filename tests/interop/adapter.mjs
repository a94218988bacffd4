// Where the authorization server keeps its tokens. The adapter that it brings along keeps the
// last 1,000 entries only, so a token could be forgotten in the midst of a test.

import { LEEWAYS } from './clients.mjs';

const stores = new Map();
const isOver = ({ until }) => until !== undefined && until <= Date.now();

export class Adapter {
  constructor(model) {
    if (!stores.has(model)) stores.set(model, new Map());
    this.store = stores.get(model);
  }

  async upsert(id, payload, expiresIn) {
    const until = expiresIn === undefined ? undefined : Date.now() + expiresIn * 1000;
    this.store.set(id, { payload, until });
  }

  async find(id) {
    const entry = this.store.get(id);
    if (entry && isOver(entry)) this.store.delete(id);
    return entry && !isOver(entry) ? entry.payload : undefined;
  }

  async consume(id) {
    const { payload } = this.store.get(id);
    const consume = () => { payload.consumed = Math.floor(Date.now() / 1000); };
    const leeway = LEEWAYS[payload.clientId];
    if (leeway) setTimeout(consume, leeway * 1000).unref();
    else consume();
  }

  async destroy(id) {
    this.store.delete(id);
  }

  async revokeByGrantId(grantId) {
    for (const [id, { payload }] of this.store) {
      if (payload.grantId === grantId) this.store.delete(id);
    }
  }

  // Sessions and device codes are no part of this.
  async findByUid() {}
  async findByUserCode() {}
}
