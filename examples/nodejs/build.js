// node build.js SOURCE OUT: one executable file of a handler and all that it
// imports, handler.proto included. It comes into its place by a rename.
import { chmodSync, mkdirSync, renameSync } from 'node:fs';
import { dirname } from 'node:path';
import { build } from 'esbuild';

const [source, out] = process.argv.slice(2);
if (!out) {
  console.error('usage: node build.js SOURCE OUT');
  process.exit(2);
}
mkdirSync(dirname(out), { recursive: true });
const part = `${out}.new`; // not executable, so that a node passes it over
await build({
  entryPoints: [source],
  outfile: part,
  bundle: true,
  platform: 'node',
  target: 'node20',
  format: 'cjs', // a file without an extension is CommonJS
  loader: { '.proto': 'text' },
  banner: { js: '#!/usr/bin/env node' },
  legalComments: 'inline',
});
chmodSync(part, 0o755);
renameSync(part, out);
