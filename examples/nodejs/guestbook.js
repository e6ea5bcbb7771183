// A whole DNA: agents sign one another's book, and each keeps what was written in its own.
import { fail, run } from './parley.js';

const LONGEST = 2 << 20; // bytes of a text

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
