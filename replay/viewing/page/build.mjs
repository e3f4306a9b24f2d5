// Bundle the page into ../static: the same sources give the same bytes.
import { copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const target = (name) => here(`../static/${name}`);

const options = {
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
await writeFile(target("NOTICE"), await notice(["mediabunny", "uplot"]));

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
