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
  target: 'node20.16',
  format: 'iife',
  loader: { '.proto': 'text' },
  // A package.json above the data directory decides what a file without an
  // extension is: it runs as a CommonJS and as an ES module. All but Node's own
  // modules is in the bundle.
  banner: { js: '#!/usr/bin/env node\nvar require = process.getBuiltinModule;' },
  define: { __dirname: '"/"', __filename: '"/plugin"' },
  legalComments: 'inline',
});
chmodSync(part, 0o755);
renameSync(part, out);
