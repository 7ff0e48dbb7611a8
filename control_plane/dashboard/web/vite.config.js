import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { defineConfig } from "vite";

/** A hash over the sources, as tests/unit/control_plane/test_dashboard.py computes it. */
function sourceHash() {
  const files = readdirSync("src", { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => `${entry.parentPath}/${entry.name}`);
  const hash = createHash("sha256");
  for (const file of [...files, "index.html", "package-lock.json", "vite.config.js"].sort())
    hash.update(file).update("\0").update(readFileSync(file)).update("\0");
  return hash.digest("hex");
}

const sourceFile = {
  name: "source-hash",
  generateBundle() {
    this.emitFile({ type: "asset", fileName: "source.sha256", source: `${sourceHash()}\n` });
  },
};

// One script and one sheet with names that do not change: the wheel serves them as they are, and a
// rebuild shows as a change of two files.
export default defineConfig({
  base: "./",
  plugins: [sourceFile],
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: "../built",
    emptyOutDir: true,
    cssTarget: ["chrome123", "firefox120", "safari17.5"], // they know light-dark()
    modulePreload: false,
    rollupOptions: {
      output: {
        entryFileNames: "app.js",
        assetFileNames: (asset) => (asset.names?.[0]?.endsWith(".css") ? "app.css" : "[name][extname]"),
        codeSplitting: false,
      },
    },
  },
});
