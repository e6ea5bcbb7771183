// A DNA for the tests: what a handler should not do, and what it sees.
import { execFileSync } from 'node:child_process';
import { openSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { fail, run } from '../parley.js';

const attempt = (f) => {
  try {
    return String(f());
  } catch (err) {
    return err.code;
  }
};

run({
  name: 'node-faults',
  integrity: '1',
  functions: {
    die: () => process.exit(7),
    throws: () => { throw new TypeError('a fault of the author’s'); },
    cyclic: () => { const a = []; a.push(a); return a; },
    async forgets(call) {
      call.commit('forgotten', call.id);
      call.log('warn', 'nobody waits \u001b[31m', { call: call.id, half: '\ud800' });
    },
    async reserved(call) { await call.commit('parley.mine', 1).catch(() => {}); },
    async lone(call) { throw fail('faults.\ud800', 'half a character: \ud83d'); },

    // stall gives up when its caller does, and says so.
    async stall(call) {
      await call.commit('stalled', 1);
      await new Promise((resolve) => call.signal.addEventListener('abort', resolve));
      console.error(`given up: ${call.signal.reason.code}`); // the node takes no line of this call any more
      throw call.signal.reason;
    },

    // impatient gives up its send after a while, and goes on.
    async impatient(call, { to, ms }) {
      const signal = AbortSignal.timeout(ms);
      const gaveUp = await call.send(to, { sleep: 60_000 }, { signal }).catch((err) => err.name);
      const tooLate = await call.send(to, { sleep: 60_000 }, { timeout: ms }).catch((err) => err.code);
      return [gaveUp, tooLate, (await call.send(to, 'still here'))];
    },

    // many sends n messages at once, with so many bytes in each, and adds up what comes back.
    async many(call, { to, n, bytes }) {
      const answers = await Promise.all(Array.from({ length: n }, (_, i) => call.send(to, new Uint8Array(bytes).fill(i))));
      return answers.filter((a, i) => a.length === bytes && a.every((b) => b === (i & 255))).length;
    },

    // publish gives the record of a public entry, which is durable when told asks for it.
    publish: (call, text) => call.commit('public', text, { public: true }),
    async published(call) { return (await call.query({ type: 'public', reverse: true, limit: 1 }))[0].record; },
    async find(call, record) { return (await call.get(record)).value; },
    notify: (call, { to, wait }) => call.notify(to, 'x', { wait }).then((results) => results.map((err) => err?.code ?? 'taken')),
    ask: (call, { to, name, value }) => call.callRemote(to, name, value),
    grant: (call, grant) => call.grant(grant),

    echo: (call, value) => value,
    properties: (call) => [call.agent, call.from, call.dna, call.properties ?? null],
    heap: () => process.memoryUsage(),

    // sees tells what the process may do: path is a file that is not its own.
    sees: (call, path) => new Promise((resolve) => {
      const socket = connect({ host: '127.0.0.1', port: 9 });
      socket.on('error', (err) => resolve({
        network: err.code,
        file: attempt(() => openSync(path) && 'opened'),
        child: attempt(() => execFileSync('/bin/sh', ['-c', 'readlink /proc/self/fd/3 || echo none'])).trim(),
        pid: process.pid,
        cwd: process.cwd() === process.env.HOME,
      }));
    }),
  },
  // What this agent lets pass, others refuse.
  validate({ type, own, value, properties, public: all }) {
    if (type === 'public' && !own && (value === 'not valid' || !all || properties.motto !== 'hej')) throw new Error('as told');
  },
  async receive(call, value) {
    if (value?.sleep) await sleep(value.sleep, undefined, { signal: call.signal });
    return value;
  },
});
