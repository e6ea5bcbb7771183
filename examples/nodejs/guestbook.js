// A whole DNA: agents sign one another's book, and each keeps what was written in its own.
import { fail, run } from './parley.js';

const LONGEST = 2 << 20; // bytes of a text
const HEADLINE = 200; // characters of what is published

run({
  name: 'node-guestbook',
  integrity: '1',
  functions: {
    // sign({to, text}) gives what the other agent said.
    async sign(call, { to, text } = {}) {
      const answer = await call.send(to, text); // until the other agent's entry is durable
      await call.commit('signed', { to, text });
      return answer;
    },

    // read() gives the guests in the order of their entries.
    async read(call) {
      const guests = [];
      for await (const { value } of call.all('guest')) guests.push(value);
      return guests;
    },

    // publish(text) is for all the world; those whose books this agent has signed are told.
    async publish(call, text) {
      await call.commit('headline', text, { public: true });
    },

    // news() gives what others have told of, as far as it can be found.
    async news(call) {
      const told = [];
      for await (const { value } of call.all('news')) told.push(value);
      const found = await Promise.allSettled(told.map(async ({ who, record }) => ({ who, text: (await call.get(record)).value })));
      return found.flatMap(({ value }) => value ?? []);
    },

    // invite({to, uses}) lets another agent read this one's book, so many times.
    async invite(call, { to, uses } = {}) {
      const { grant } = await call.grant({ kind: 'assigned', agents: [to], functions: ['read'], uses });
      return grant;
    },
    close: (call, grant) => call.revoke(grant),

    // peek({at}) reads another agent's book, who has to have invited this one.
    peek: (call, { at } = {}) => call.callRemote(at, 'read'),
  },

  // Once in the life of a book, before anybody writes in it.
  async init(call) {
    await call.commit('opened', { by: call.agent });
  },

  // Every agent comes to the same verdict of an entry, and refuses what is not valid.
  validate(entry) {
    if (entry.type !== 'headline') return;
    if (!entry.public || typeof entry.value !== 'string' || entry.value.length > HEADLINE) {
      throw new Error(`a headline is public, and a text of at most ${HEADLINE} characters`);
    }
  },

  // What was committed is durable: tell of it. It may come twice.
  async postCommit(call, records) {
    for (const { type, record } of records) {
      if (type !== 'headline') continue;
      const friends = new Set();
      for await (const { value } of call.all('signed')) friends.add(value.to);
      await call.notify([...friends].slice(0, 1024), { record });
    }
  },

  // Nobody waits for an answer. Who watches this agent's signals hears of it.
  async notified(call, { record } = {}) {
    if (typeof record !== 'string' || record.length > 100) throw fail('guestbook.news', 'no record');
    await call.commit('news', { who: call.from, record });
    await call.emit({ who: call.from, record });
  },

  // Anybody can send anything: bound it before it is kept.
  async receive(call, text) {
    if (typeof text !== 'string' || text === '') throw fail('guestbook.empty', 'a page without a word');
    const bytes = Buffer.byteLength(text);
    if (bytes > LONGEST) throw fail('guestbook.long', `${bytes} bytes, ${LONGEST} at most`);
    await call.commit('guest', { who: call.from, text });
    return `Thank you, ${call.from.slice(0, 14)}`;
  },
});
