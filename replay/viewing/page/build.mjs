// Bundle the page into ../static: the same sources give the same bytes.
import { copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const target = (name) => here(`../static/${name}`);

/** Nothing that is recorded is encrypted: what deciphers videos is left out of the reader. */
const withoutCiphers = {
  name: "without-ciphers",
  setup({ onLoad }) {
    const contents =
      'export class Aes128CbcContext { constructor() { throw new Error("it is encrypted"); } }' +
      "export const AES_128_BLOCK_SIZE = 16, createAes128CbcDecryptStream = null;";
    onLoad({ filter: /mediabunny\/.*\/aes\.js$/ }, () => ({ contents }));
  },
};

const options = {
  plugins: [withoutCiphers],
  absWorkingDir: here("."),
  bundle: true,
  minify: true,
  charset: "utf8",
  legalComments: "none", // their licences stand in NOTICE
  logLevel: "warning",
  target: ["chrome110", "firefox115", "safari16.4"],
};

await mkdir(here("../static"), { recursive: true });
await build({
  ...options,
  entryPoints: ["src/main.ts"],
  outfile: target("page.js"),
  format: "iife", // a classic script also runs from file://
  banner: { js: "/* dgrec; contains mediabunny (MPL-2.0) and uPlot (MIT), see NOTICE */" },
});
await build({ ...options, entryPoints: ["page.css"], outfile: target("page.css") });
for (const name of ["index.html", "icon.svg"]) await copyFile(here(name), target(name));
await writeFile(target("export.html"), await exportPage());
await writeFile(target("single.html"), await singlePage());
await writeFile(target("NOTICE"), await notice(["mediabunny", "uplot"]));

/** The page of `dgrec view --export`: no server says what it may load. */
async function exportPage() {
  const policy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; " +
    "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'";
  return withData(await readFile(here("index.html"), "utf8"), policy, "data/");
}

/** The page in one file, but for what `dgrec.replay.viewing.single` puts in place of the comments. */
async function singlePage() {
  const policy =
    "default-src 'none'; script-src <!--script-hash-->; style-src <!--style-hash-->; " +
    "img-src data: blob:; media-src blob:; base-uri 'none'; form-action 'none'";
  const icon = (await readFile(here("icon.svg"))).toString("base64");
  const parts = [
    [/^ *<script src="page.js" defer><\/script>\n/m, ""],
    ['<link rel="stylesheet" href="page.css" />', "<style><!--style--></style>"],
    ['href="icon.svg"', `href="data:image/svg+xml;base64,${icon}"`],
    [/ *<\/body>/, "<!--data-->\n    <script><!--script--></script>\n  </body>"],
  ];
  let page = withData(await readFile(here("index.html"), "utf8"), policy, "");
  for (const [part, other] of parts) page = replaced(page, part, other);
  return page;
}

function withData(page, policy, folder) {
  const metas =
    `<meta http-equiv="Content-Security-Policy" content="${policy}" />\n    ` +
    `<meta name="dgrec-data" content="${folder}" />`;
  const charset = '<meta charset="utf-8" />';
  return replaced(page, charset, `${charset}\n    ${metas}`);
}

function replaced(text, part, other) {
  const found = text.replace(part, () => other);
  if (found === text) throw new Error(`index.html has no ${part}`);
  return found;
}

async function notice(packages) {
  const parts = ["page.js and page.css contain these libraries, unchanged but bundled and minified.\n"];
  for (const name of packages) {
    const folder = here(`node_modules/${name}/`);
    const { version, license, homepage, repository } = JSON.parse(
      await readFile(`${folder}package.json`, "utf8"),
    );
    const address = (repository?.url ?? homepage ?? "").replace(/^git\+|\.git$/g, "");
    const text = (await readFile(`${folder}LICENSE`, "utf8")).trim();
    parts.push(`${"=".repeat(78)}\n${name} ${version}, ${license}\nSource: ${address}\n\n${text}\n`);
  }
  return parts.join("\n");
}
