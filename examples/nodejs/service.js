// The process: environment, handshake, and what it serves over gRPC.
import { chmodSync, existsSync, rmSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { Metadata, Server, ServerCredentials, status } from '@grpc/grpc-js';
import { selfSigned } from './certificate.js';

const CALLS_FD = 3;
const SERVING = Buffer.of(0x08, 0x01); // HealthCheckResponse{status: SERVING}

export function serve(handler) {
  if (process.argv.length === 3 && process.argv[2] === '--describe') {
    console.log(JSON.stringify(handler.describe(), (key, value) => (key === 'needs' && value.length === 0 ? undefined : value)));
    return;
  }
  const { PARLEY_HANDLER, PLUGIN_CLIENT_CERT, PLUGIN_PROTOCOL_VERSIONS = '', PLUGIN_UNIX_SOCKET_DIR } = process.env;
  if (PARLEY_HANDLER !== 'parley.handler.v1' || !PLUGIN_CLIENT_CERT || !PLUGIN_UNIX_SOCKET_DIR) {
    die(`This is a parley handler: it implements ${handler.what}.\nTo run it, put it into a directory and start a node with it: parley run --plugins DIRECTORY`);
  }
  if (!PLUGIN_PROTOCOL_VERSIONS.split(',').includes('1')) die(`the node speaks the versions ${PLUGIN_PROTOCOL_VERSIONS} of the contract, this handler 1`);

  // Node marks the descriptors that it was started with close-on-exec.
  handler.calls(new Socket({ fd: CALLS_FD, readable: true, writable: true }), (err) => (err ? die(`call socket: ${err.message}`) : process.exit(0)));

  const own = selfSigned();
  const server = new Server({ 'grpc.max_receive_message_length': 1 << 20, 'grpc.max_send_message_length': 1 << 20 });
  server.addService(...handlerService(handler));
  server.addService(...healthService());
  const path = join(PLUGIN_UNIX_SOCKET_DIR, 'handler.sock');
  if (existsSync(path)) rmSync(path);
  const credentials = ServerCredentials.createSsl(Buffer.from(PLUGIN_CLIENT_CERT), [{ private_key: own.key, cert_chain: own.pem }], true);
  server.bindAsync(`unix:${path}`, credentials, (err) => {
    if (err) die(`listen: ${err.message}`);
    chmodSync(path, 0o600);
    process.stdout.write(`1|1|unix|${path}|grpc|${own.line}\n`);
  });
}

function die(text) {
  console.error(text);
  process.exit(1);
}

function handlerService({ describe, setup, type }) {
  const method = (name, request, response, responseStream = false) => ({
    path: `/parley.handler.v1.Handler/${name}`,
    requestStream: false,
    responseStream,
    requestDeserialize: (b) => type(request).decode(b),
    responseSerialize: (m) => Buffer.from(type(response).encode(m).finish()),
  });
  const answer = (f) => (call, callback) => {
    try {
      callback(null, f(call.request));
    } catch (err) {
      callback({ code: err.code ?? status.INTERNAL, details: err.message });
    }
  };
  return [{
    Describe: method('Describe', 'DescribeRequest', 'DescribeResponse'),
    Setup: method('Setup', 'SetupRequest', 'SetupResponse'),
    Drain: method('Drain', 'DrainRequest', 'DrainResponse'),
    Control: method('Control', 'ControlRequest', 'ControlEvent', true),
  }, {
    Describe: answer(describe),
    Setup: answer(setup),
    Drain: answer(() => ({})), // it does nothing of its own accord
    Control(call) {
      call.on('cancelled', () => process.exit(0));
      call.sendMetadata(new Metadata());
    },
  }];
}

// The two messages of grpc.health.v1 that are needed, by hand.
function healthService() {
  return [{
    Check: {
      path: '/grpc.health.v1.Health/Check',
      requestStream: false,
      responseStream: false,
      requestDeserialize: (b) => (b.length === 0 ? '' : b.toString('utf8', 2)), // the field service, less than 128 bytes
      responseSerialize: (b) => b,
    },
  }, {
    Check(call, callback) {
      if (call.request === 'plugin' || call.request === '') callback(null, SERVING);
      else callback({ code: status.NOT_FOUND, details: 'unknown service' });
    },
  }];
}
