// Serves the page, the boards and a dump, and has a headless Chromium draw each board: node shots.mjs DUMP OUT_DIR [board...]
import { createServer } from 'node:http';
import { execFileSync, execFile } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const [dump, out, ...only] = process.argv.slice(2);
if (!dump || !out) {
  console.error('usage: node shots.mjs DUMP OUT_DIR [board...]');
  process.exit(2);
}
const boards = ['releases', 'release', 'service', 'thresholds', 'service-map', 'davy'].filter((b) => !only.length || only.includes(b));
const types = { html: 'text/html', js: 'text/javascript', css: 'text/css', json: 'application/json', svg: 'image/svg+xml' };
const places = (path) =>
  path === '/dump.json' ? dump
  : path.startsWith('/boards/') ? join(here, '../Davy', path.slice(8))
  : path.startsWith('/public/') ? join(here, 'node_modules/@grafana/ui/dist', path)
  : join(here, path === '/' ? 'index.html' : path);
const server = createServer((request, response) => {
  try {
    const path = normalize(decodeURIComponent(new URL(request.url, 'http://x').pathname));
    const body = readFileSync(places(path));
    response.writeHead(200, { 'content-type': types[path.split('.').pop()] ?? 'text/html' }).end(body);
  } catch {
    response.writeHead(404).end();
  }
});
server.listen(0, '127.0.0.1', async () => {
  const base = `http://127.0.0.1:${server.address().port}`;
  mkdirSync(out, { recursive: true });
  const run = (args) => new Promise((done, failed) =>
    execFile('chromium', ['--headless=new', '--no-sandbox', '--disable-gpu', '--hide-scrollbars', '--virtual-time-budget=20000', ...args], { maxBuffer: 1 << 28 }, (e, text) => (e ? failed(e) : done(text))));
  for (const board of boards) {
    const url = `${base}/?board=${board}.json`;
    const dom = await run(['--window-size=1592,1000', '--dump-dom', url]);
    const height = Number(/data-height="(\d+)"/.exec(dom)?.[1] ?? 1200);
    await run([`--window-size=1592,${height}`, `--screenshot=${join(out, board + '.png')}`, url]);
    console.log(board, height);
  }
  server.close();
});
