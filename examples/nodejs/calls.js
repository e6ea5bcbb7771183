// The call socket: frames in batches, large ones in pieces. What is sent in one
// turn of the event loop goes as one batch.
import Long from 'long';
import protobuf from 'protobufjs';
import proto from '../../sdk/handlerpb/handler.proto';

protobuf.util.Long = Long; // protobufjs looks for it by name, which a bundle does not have
protobuf.configure();

const { root } = protobuf.parse(proto, { keepCase: true });
export const type = (name) => root.lookupType(`parley.handler.v1.${name}`);
const HostBatch = type('HostBatch');
const HostMessage = type('HostMessage');
const HandlerMessage = type('HandlerMessage');

const FULL = 256 << 10; // of a batch, and above it a frame travels in pieces
const PIECE = 64 << 10; // what a piece gets of a batch at least
const MARGIN = 1 << 20; // of a batch and of a frame, beyond the payload
const FRAMES = 1 << 3 | 2, PART = 2 << 3 | 2, LAST_PART = 3 << 3 | 2; // tags of HandlerBatch

export class CallSocket {
  #socket; #limit; #frame;
  #chunks = []; #have = 0; #want = -1; // what was read; the length of the batch that comes, or -1
  #parts = []; #partBytes = 0; // of the frame that comes in pieces
  #small = []; #large = []; #at = 0; // what waits to be sent; where the next piece of #large[0] begins
  #scheduled = false; #blocked = false;

  // frame is called with each HostMessage, end once, with the reason if there is one.
  constructor(socket, maxPayload, frame, end) {
    this.#socket = socket;
    this.#limit = maxPayload + MARGIN;
    this.#frame = frame;
    socket.on('data', (chunk) => {
      try {
        this.#read(chunk);
      } catch (err) {
        end(err);
      }
    });
    socket.on('drain', () => { this.#blocked = false; this.#flush(); });
    socket.on('error', end);
    socket.on('close', () => end());
  }

  #read(chunk) {
    this.#chunks.push(chunk);
    this.#have += chunk.length;
    for (;;) {
      if (this.#want < 0) {
        if (this.#have < 4) return;
        this.#want = this.#take(4).readUInt32BE();
        if (this.#want > this.#limit) throw new Error(`a batch of ${this.#want} bytes`);
      }
      if (this.#have < this.#want) return;
      const batch = HostBatch.decode(this.#take(this.#want));
      this.#want = -1;
      batch.frames.forEach(this.#frame);
      this.#piece(batch.part);
      if (this.#piece(batch.last_part)) {
        const whole = Buffer.concat(this.#parts);
        this.#parts = [];
        this.#partBytes = 0;
        this.#frame(HostMessage.decode(whole));
      }
    }
  }

  #take(n) {
    if (this.#chunks.length > 1 && this.#chunks[0].length < n) this.#chunks = [Buffer.concat(this.#chunks)];
    const first = this.#chunks[0] ?? Buffer.alloc(0);
    if (first.length > n) this.#chunks[0] = first.subarray(n);
    else this.#chunks.shift();
    this.#have -= n;
    return first.subarray(0, n);
  }

  #piece(piece) {
    if (piece.length === 0) return false;
    this.#partBytes += piece.length;
    if (this.#partBytes > this.#limit) throw new Error('a frame in pieces is too large');
    this.#parts.push(piece);
    return true;
  }

  // send sends a HandlerMessage. Small ones keep their order and overtake large ones.
  send(message) {
    const frame = HandlerMessage.encode(message).finish();
    (frame.length > FULL ? this.#large : this.#small).push(frame);
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => { this.#scheduled = false; this.#flush(); });
  }

  #flush() {
    while (!this.#blocked && this.#small.length + this.#large.length > 0) {
      const batch = protobuf.Writer.create();
      const room = this.#large.length > 0 ? FULL - PIECE : FULL;
      let filled = 0, n = 0;
      for (; n < this.#small.length && (n === 0 || filled + this.#small[n].length <= room); n++) {
        batch.uint32(FRAMES).bytes(this.#small[n]);
        filled += this.#small[n].length;
      }
      this.#small.splice(0, n);
      if (this.#large.length > 0) {
        const end = this.#at + Math.max(FULL - filled, PIECE), whole = this.#large[0];
        batch.uint32(end < whole.length ? PART : LAST_PART).bytes(whole.subarray(this.#at, end));
        this.#at = end;
        if (end >= whole.length) {
          this.#large.shift();
          this.#at = 0;
        }
      }
      const bytes = batch.finish();
      const head = Buffer.alloc(4);
      head.writeUInt32BE(bytes.length);
      this.#socket.cork();
      this.#socket.write(head);
      this.#blocked = !this.#socket.write(bytes);
      this.#socket.uncork();
    }
  }
}
