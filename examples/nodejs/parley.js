// parley.js is the author's side of a handler in Node.js: run({name, integrity,
// functions, receive, …}) is all that a program does. Its parts take a Call and a
// value, and return or promise a value. See README.md.
import { status } from '@grpc/grpc-js';
import { CallSocket, type } from './calls.js';
import { fromPayload, header, idBytes, idText, record, toPayload } from './payload.js';
import { serve } from './service.js';

const CODES = [, 'unknown_agent', 'unreachable', 'refused', 'no_handler', 'busy', 'too_large', 'timeout', 'canceled',
  'handler_failed', 'handler_crashed', 'chain_moved', 'outcome_unknown'];
const SIDES = [, 'caller', 'node', 'handler', 'remote_node', 'remote_handler'];
const DELIVERED = ['unknown', 'no', 'yes'];
const NO = 1, YES = 2, CALLER = 1, HANDLER = 3, HANDLER_FAILED = 9;
const FUNCTION = 1, RECEIVE = 2, INIT = 3, VALIDATE = 4, POST_COMMIT = 5, NOTIFIED = 6; // CallKind
const GRANTS = [, 'assigned', 'transferable', 'unrestricted']; // GrantKind
const MAX_CALLBACKS = 64, MAX_TIMER = 2 ** 31 - 1, MAX_NOTIFIED = 1024;

// clip makes valid UTF-8 of at most n bytes.
function clip(value, n) {
  const b = Buffer.from(String(value));
  if (b.length > n) while ((b[n] & 0xc0) === 0x80) n--;
  return b.toString('utf8', 0, n);
}

// ParleyError is an error of the closed set (docs/errors.md). What came from
// the node is kept as it is.
export class ParleyError extends Error {
  constructor(wire) {
    super(wire.text || CODES[wire.code]);
    this.name = 'ParleyError';
    Object.defineProperty(this, 'wire', { value: wire });
    this.code = CODES[wire.code];
    this.side = SIDES[wire.side];
    this.delivered = DELIVERED[wire.delivered ?? 0];
    this.retry = wire.retry ?? false;
    this.handlerCode = wire.handler_code ?? '';
    if (wire.limit) this.retryAfter = Number(wire.limit.retry_after_ns ?? 0) / 1e6; // ms
  }
}

const failed = (handler_code, text, delivered = YES) => new ParleyError(
  { code: HANDLER_FAILED, side: HANDLER, delivered, handler_code: clip(handler_code, 128), text: clip(text, 4096) });

// fail is how a handler refuses: throw fail('dna.reason', 'why').
export const fail = (code, text) => failed(code, text);

const ended = (code, text) => new ParleyError({ code: CODES.indexOf(code), side: CALLER, text });

function tooLarge(what, value, max, { side = CALLER, delivered = NO, name = 'payload', setting = 'max-payload' } = {}) {
  return new ParleyError({ code: CODES.indexOf('too_large'), side, delivered, text: `${what} has ${value} bytes, at most ${max} are allowed`,
    limit: { name, setting, value, max } });
}

function encoded(value) {
  try {
    return toPayload(value);
  } catch (err) {
    throw failed('parley.output', `encode payload: ${err.message}`);
  }
}

function decoded(bytes, code) {
  try {
    return fromPayload(bytes);
  } catch (err) {
    throw failed(code, `decode payload: ${err.message}`);
  }
}

// Call is a running call: whom it is from, and what it may ask its node for.
// Nothing of it works once the call has returned.
export class Call {
  #host; #number; #deadline = Infinity; #timer; #abort = new AbortController();
  #lastCallback = 0; #open = new Map(); #free = MAX_CALLBACKS; #waiting = [];
  #pending = new Set(); #refused; #over = false;

  constructor(host, number, start) {
    this.#host = host;
    this.#number = number;
    this.agent = host.agent; // this agent
    this.from = idText('agent', start.from); // the proven sender or caller; else this agent
    // in whose name from acts, proven; undefined: in its own. A proof begins with its
    // version, the number of links and a link's version; then comes who gives it.
    this.onBehalfOf = start.behalf.length > 0 ? idText('agent', start.behalf.subarray(3, 35)) : undefined;
    this.isOwn = start.kind === FUNCTION && this.from === this.agent; // this agent's own client calls
    this.id = Buffer.from(start.id).toString('hex'); // of the message
    this.dna = host.dna;
    this.properties = host.properties; // of the operator; undefined if there are none
    this.signal = this.#abort.signal; // aborts when nobody waits for the result any more
    const left = Number(start.remaining_ms);
    if (left > 0) {
      this.#deadline = Date.now() + left;
      if (left <= MAX_TIMER) this.#timer = setTimeout(() => this.giveUp('timeout', 'the deadline passed'), left);
    }
  }

  // send gives the answer of another agent's receive, or throws a ParleyError.
  // timeout is in ms; signal is an AbortSignal of the author's own.
  send(to, value, options = {}) { return this.#tracked(this.#send(to, value, options)); }

  // callRemote gives what a function of another agent's DNA answers, of whom this one
  // has a grant for it.
  callRemote(agent, name, value, options = {}) { return this.#tracked(this.#send(agent, value, { ...options, name })); }

  // notify sends a value to many agents' notified. With wait it promises what became
  // of each: undefined, or its ParleyError. Await it where the order matters.
  notify(agents, value, options = {}) { return this.#tracked(this.#notify(agents, value, options)); }

  // emit sends a signal to this agent's own clients ("parley watch").
  emit(value) { return this.#tracked(this.#emit(value)); }

  // get gives a public entry of any agent's, whose record has this hash, checked by
  // this DNA's validate too.
  get(hash, options = {}) { return this.#tracked(this.#get(hash, options)); }

  // grant opens functions of this agent's to others: kind is assigned (to agents),
  // transferable (to whoever has the claim's secret) or unrestricted; functions (none:
  // all), expires (a Date), uses and rate ({n, per} in ms) bound it. It gives the claim.
  grant(grant) { return this.#tracked(this.#grant(grant)); }

  // revoke ends a grant: its name is claim.grant.
  revoke(id) { return this.#tracked(this.#revoke(id)); }

  // commit stages an entry and gives its hash; options are public and strict. It
  // is appended when the call succeeds. A commit that fails fails the call.
  commit(entryType, value, options = {}) {
    const hash = this.#tracked(this.#commit(entryType, value, options));
    hash.catch((err) => { this.#refused ??= err; });
    return hash;
  }

  // query reads records of this agent's chain. Entries that this call committed
  // are not among them.
  query({ type: entryType = '', from = 0, to = 0, reverse = false, limit = 0 } = {}) {
    return this.#tracked(this.#query({ type: entryType, from, to, reverse, limit }));
  }

  // all walks over all records of one type, page by page.
  async* all(entryType, { from = 0, to = 0 } = {}) {
    for (;;) {
      const page = await this.query({ type: entryType, from, to });
      yield* page;
      if (page.length === 0) return;
      from = page.at(-1).seq + 1;
    }
  }

  // log writes a line to the node's log: level is debug, info, warn or error. Of
  // a call that was given up the node takes none: console.error is for that.
  log(level, text, attrs = {}) {
    if (this.#over) return;
    this.#host.send({ call: this.#number, log: {
      level: { debug: -4, info: 0, warn: 4, error: 8 }[level] ?? 0,
      text: clip(text, 8 << 10),
      attrs: Object.entries(attrs).slice(0, 32).map(([k, v]) => ({ key: clip(k, 256), value: clip(v, 4 << 10) })),
    } });
  }

  // #tracked makes the call wait for what its author does not wait for.
  #tracked(promise) {
    this.#pending.add(promise);
    const over = () => this.#pending.delete(promise);
    promise.then(over, over);
    return promise;
  }

  async #send(to, value, { timeout, signal, name = '' }) {
    const send = { to: this.#bytes('agent', to), payload: this.#payload('the message', value), function: name, ...this.#within(timeout) };
    const answer = await this.#ask({ send }, signal);
    return decoded(answer.reply, 'parley.output');
  }

  async #notify(agents, value, { wait = false, timeout, signal }) {
    if (agents.length === 0) return [];
    if (agents.length > MAX_NOTIFIED) throw failed('parley.input', `notify: ${agents.length} agents, at most ${MAX_NOTIFIED}`, NO);
    const notify = { to: agents.map((to) => this.#bytes('agent', to)), payload: this.#payload('the notification', value), wait, ...this.#within(timeout) };
    const answer = await this.#ask({ notify }, signal);
    return answer.notified.results.map(({ error }) => (error ? new ParleyError(error) : undefined));
  }

  async #emit(value) {
    await this.#ask({ emit: { payload: this.#payload('the signal', value) } });
  }

  async #get(hash, { timeout, signal }) {
    const answer = await this.#ask({ get: { record: this.#bytes('hash', hash), ...this.#within(timeout) } }, signal);
    return record(answer.record);
  }

  async #grant({ kind, agents = [], functions = [], expires, uses = 0, rate, maxPayload = 0 } = {}) {
    checkGrant({ kind, agents, functions, expires, rate, numbers: [uses, maxPayload, rate?.n ?? 1] });
    const { claim } = await this.#ask({ grant: {
      kind: GRANTS.indexOf(kind), agents: agents.map((to) => this.#bytes('agent', to)), functions, uses, max_payload: maxPayload,
      expires_us: expires ? expires.getTime() * 1000 : 0, rate: rate && { n: rate.n, per_ns: rate.per * 1e6 },
    } });
    return {
      grantor: this.agent, grant: idText('hash', claim.grant), functions: claim.functions,
      secret: claim.secret.length > 0 ? claim.secret : undefined, // for a transferable grant, to be passed on
    };
  }

  async #revoke(id) {
    await this.#ask({ revoke: { id: this.#bytes('hash', id) } });
  }

  #payload(what, value) {
    const payload = encoded(value);
    if (payload.length > this.#host.maxPayload) throw tooLarge(what, payload.length, this.#host.maxPayload);
    return payload;
  }

  // #within is the time that a callback has of its own.
  #within(timeout) {
    if (timeout === undefined || Date.now() + timeout >= this.#deadline) return {};
    return { remaining_ms: Math.max(1, Math.ceil(timeout)) };
  }

  async #commit(entryType, value, options) {
    const content = encoded(value);
    const max = this.#host.limits.entry || this.#host.maxPayload;
    if (content.length > max) {
      throw tooLarge('the entry', content.length, max, { side: 2, delivered: YES, name: 'entry', setting: 'chain-max-entry' });
    }
    const length = Buffer.byteLength(entryType);
    if (length < 1 || length > 64 || !entryType.isWellFormed()) throw failed('parley.commit', 'an entry type has 1 to 64 bytes of UTF-8');
    // The node asks about other agents' entries, and not about this one's own.
    this.#host.judge?.({ type: entryType, public: Boolean(options.public), author: this.agent, own: true }, content);
    const commit = { type: entryType, visibility: options.public ? 1 : 0, ordering: options.strict ? 1 : 0, content };
    return idText('hash', (await this.#ask({ commit })).hash);
  }

  async #query({ type: entryType, from, to, reverse, limit }) {
    if (![from, to, limit].every((n) => Number.isSafeInteger(n) && n >= 0) || limit > 1000) {
      throw failed('parley.input', 'query: from, to and limit are whole numbers, and limit is at most 1000', NO);
    }
    const answer = await this.#ask({ query: { type: clip(entryType, 64), from, to, reverse: Boolean(reverse), limit } });
    return answer.records.records.map(record);
  }

  #bytes(prefix, text) {
    try {
      return idBytes(prefix, text);
    } catch (err) {
      throw failed('parley.input', err.message, NO);
    }
  }

  // #ask sends a callback and promises its answer.
  async #ask(op, signal) {
    while (this.#free === 0 && !this.#over && !this.signal.aborted) await new Promise((resolve) => this.#waiting.push(resolve));
    if (this.#over) throw failed('parley.context', 'the call has returned', NO);
    for (const s of [this.signal, signal]) if (s?.aborted) throw s.reason;
    const cb = ++this.#lastCallback;
    this.#free--;
    return new Promise((resolve, reject) => {
      const cancel = () => {
        this.#host.send({ call: this.#number, cancel: cb });
        reject(signal.reason);
      };
      signal?.addEventListener('abort', cancel, { once: true });
      const done = () => signal?.removeEventListener('abort', cancel);
      this.#open.set(cb, { resolve: (v) => { done(); resolve(v); }, reject: (e) => { done(); reject(e); } });
      this.#host.send({ call: this.#number, callback: { cb, ...op } });
    });
  }

  // What follows is for the frames of the call socket.

  answered(result) {
    const waiter = this.#open.get(Number(result.cb));
    if (!waiter) return;
    this.#open.delete(Number(result.cb));
    this.#free++;
    this.#waiting.shift()?.();
    if (result.outcome === 'error') waiter.reject(new ParleyError(result.error));
    else waiter.resolve(result);
  }

  giveUp(code, text) {
    this.#abort.abort(ended(code, text));
    for (const { reject } of this.#open.values()) reject(this.signal.reason);
    this.#waiting.splice(0).forEach((go) => go());
  }

  // run ends the call with a result, whatever body does.
  async run(body, input, records) {
    let result;
    try {
      const reply = encoded(await body(this, input === null ? undefined : decoded(input, 'parley.input'), records));
      if (reply.length > this.#host.maxPayload) {
        throw tooLarge('the reply', reply.length, this.#host.maxPayload, { side: HANDLER, delivered: YES });
      }
      while (this.#pending.size > 0) await Promise.allSettled(this.#pending);
      if (this.#refused) throw this.#refused;
      result = { reply };
    } catch (err) {
      if (!(err instanceof ParleyError) && !this.signal.aborted) console.error(err?.stack ?? err);
      result = { error: this.#outcome(err).wire };
    }
    this.#over = true;
    clearTimeout(this.#timer);
    for (const { reject } of this.#open.values()) reject(failed('parley.context', 'the call has returned', NO));
    this.#waiting.splice(0).forEach((go) => go());
    this.#host.send({ call: this.#number, result });
  }

  // #outcome is what the call ends with. Only this agent's own client is told of the
  // error of an inner send as it is: others wait for another message's.
  #outcome(err) {
    if (this.signal.aborted && err?.name === 'AbortError') return this.signal.reason; // what was awaited ended with the call
    if (!(err instanceof ParleyError)) return failed('', err?.message ?? err);
    if (this.isOwn || this.signal.aborted) return err;
    const own = err.code === 'handler_failed' && err.side === 'handler';
    return failed(own ? err.handlerCode : err.code, err.message);
  }
}

// checkGrant throws where the node would end a handler that breaks the contract.
function checkGrant({ kind, agents, functions, expires, rate, numbers }) {
  const wrong = (why) => { throw failed('parley.input', `grant: ${why}`, NO); };
  if (!GRANTS.includes(kind) || kind === undefined) wrong(`kind ${kind}`);
  if (kind === 'assigned' ? agents.length < 1 || agents.length > 256 : agents.length > 0) wrong(`${agents.length} agents of an ${kind} one`);
  if (functions.length > 64 || new Set(functions).size < functions.length || !functions.every((f) => /^[a-z0-9_-]{1,64}$/.test(f))) wrong('functions');
  if (!numbers.every((n) => Number.isInteger(n) && n >= 0 && n < 2 ** 31)) wrong('a number that is none, or too large');
  if (expires !== undefined && !(expires instanceof Date && expires.getTime() > 0)) wrong('expires is a Date');
  if (rate && !(rate.n > 0 && rate.per > 0 && rate.per < 2 ** 43)) wrong('a rate is a number of calls in a time');
}

const noHandler = (text) => () => {
  throw new ParleyError({ code: CODES.indexOf('no_handler'), side: HANDLER, delivered: NO, retry: true, text });
};

// run serves a DNA until its node is gone.
export function run({ name, integrity = '', functions = {}, receive, notified, init, validate, postCommit, needs = [] }) {
  const calls = new Map(); // by number, in text, since it may be beyond 2^53
  const host = { maxPayload: Number(process.env.PARLEY_MAX_PAYLOAD) || 16 << 20, limits: {} };
  // judge throws where an entry is not valid. It must rest on nothing but the entry.
  if (validate) {
    host.judge = (entry, content) => {
      try {
        validate({ ...entry, value: fromPayload(content), properties: host.properties });
      } catch (err) {
        throw failed('parley.validate', `entry ${JSON.stringify(entry.type)} is not valid: ${err?.message ?? err}`);
      }
    };
  }
  const bodies = { // of the calls that are no functions
    [RECEIVE]: receive,
    [NOTIFIED]: notified,
    [INIT]: init && ((call) => init(call)),
    [VALIDATE]: validate && ((call, _, [r]) => {
      const of = header(r.header);
      host.judge({ type: of.type, public: of.public, author: of.author, own: of.author === host.agent }, r.content);
    }),
    [POST_COMMIT]: postCommit && ((call, _, records) => postCommit(call, records.map(record))),
  };
  const frame = (m) => {
    const key = String(m.call);
    if (m.message !== 'start') { // passed over where the call has ended
      if (m.message === 'result') calls.get(key)?.answered(m.result);
      else if (m.message === 'cancel') calls.get(key)?.giveUp('canceled', 'the caller gave up');
      return;
    }
    const body = m.start.kind !== FUNCTION ? bodies[m.start.kind]
      : Object.hasOwn(functions, m.start.function) ? functions[m.start.function] : undefined;
    const call = new Call(host, m.call, m.start);
    calls.set(key, call);
    // Later, so that the socket is read whatever a call computes first.
    setImmediate(() => call.run(body ?? noHandler(`there is no function ${m.start.function}`), body ? m.start.payload : null, m.start.records?.records)
      .finally(() => calls.delete(key)));
  };
  serve({
    what: `the DNA ${JSON.stringify(name)}`,
    calls(socket, end) {
      const stream = new CallSocket(socket, host.maxPayload, frame, end);
      host.send = (message) => stream.send(message);
    },
    describe: () => ({
      name, integrity, needs, receives: Boolean(receive), notified: Boolean(notified), init: Boolean(init), validate: Boolean(validate),
      post_commit: Boolean(postCommit), sdk: `node ${process.version}`, protocol: 1,
      functions: Object.keys(functions).sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))),
    }),
    setup({ agent, dna, properties, commits }) {
      if (agent.length !== 32 || dna.length !== 32) throw Object.assign(new Error('setup: an agent and a DNA have 32 bytes'), { code: status.INVALID_ARGUMENT });
      host.agent = idText('agent', agent);
      host.dna = idText('dna', dna);
      host.limits = commits ?? {};
      try {
        host.properties = properties.length > 0 ? JSON.parse(properties.toString()) : undefined;
      } catch (err) {
        return { error: failed('', `properties: ${err.message}`).wire };
      }
      return {};
    },
    type,
  });
}
