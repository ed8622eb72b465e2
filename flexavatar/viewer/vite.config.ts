import { createHash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { defineConfig, type Plugin } from "vite";

const WASM = "node_modules/@mediapipe/tasks-vision/wasm/vision_wasm_internal";
const CLIPS = "../assets/clips";

/** Spark carries its WebAssembly as base64 in the script; packed it is a third of the size. */
function packedSpark(): Plugin {
  return {
    name: "packed-spark",
    enforce: "pre",
    transform(code, id) {
      if (!/@sparkjsdev\/spark\/dist\/spark\.module\.js/.test(id)) return null;
      const [before, after] = ['const WASM = decode64("', '").buffer;\nconst WASM_MODULE = WebAssembly.compile(WASM);'];
      const start = code.indexOf(before);
      const end = code.indexOf(after, start);
      if (start < 0 || end < 0) throw new Error("Spark's WebAssembly is no longer where this build expects it.");
      const wasm = Buffer.from(code.slice(start + before.length, end), "base64");
      const packed = gzipSync(wasm, { level: 9 }).toString("base64");
      const unpack = `const WASM_MODULE = new Response(new Blob([decode64("${packed}")]).stream()
        .pipeThrough(new DecompressionStream("gzip"))).arrayBuffer().then((bytes) => WebAssembly.compile(bytes));`;
      return { code: code.slice(0, start) + unpack + code.slice(end + after.length), map: null };
    },
  };
}

/** `virtual:clips`: the package's driving clips, weights as bytes, head angles as 1/100 degree. */
function clips(): Plugin {
  return {
    name: "clips",
    resolveId: (id) => (id === "virtual:clips" ? "\0clips" : null),
    load(id) {
      if (id !== "\0clips") return null;
      const all = readdirSync(CLIPS).filter((name) => name.endsWith(".csv")).sort().map(clip);
      return `export default ${JSON.stringify(all)};`;
    },
  };
}

function clip(file: string) {
  const text = readFileSync(`${CLIPS}/${file}`, "utf8");
  const [header, ...rows] = text.trim().split("\n").map((line) => line.split(","));
  const names = JSON.parse(readFileSync("src/expressions.json", "utf8")).blendshapes as string[];
  const column = (name: string) => {
    const index = header!.indexOf(name);
    if (index < 0) throw new Error(`${file} has no column ${name}.`);
    return index;
  };
  const shapes = names.map((name) => column(name[0]!.toUpperCase() + name.slice(1)));
  const head = ["HeadYaw", "HeadPitch", "HeadRoll"].map(column);
  const weights = Buffer.from(rows.flatMap((row) => shapes.map((at) => Math.round(Number(row[at]) * 255))));
  const angles = rows.map((row) => head.map((at) => Math.round((Number(row[at]) * 18000) / Math.PI)));
  const sha256 = createHash("sha256").update(text).digest("hex");
  return { name: file.slice(0, -4), sha256, fps: 30, weights: weights.toString("base64"), angles: angles.flat() };
}

/** MediaPipe's WebAssembly, packed; the page unpacks it when the webcam is switched on. */
function mediapipe(): Plugin {
  return {
    name: "mediapipe",
    generateBundle() {
      const emit = (fileName: string, source: Uint8Array) => this.emitFile({ type: "asset", fileName, source });
      // It reports everything, also that all is well, as an error; what fails is thrown as well.
      const loader = readFileSync(`${WASM}.js`, "utf8").replace("console.error.bind(console)", "console.info.bind(console)");
      emit("mediapipe/vision_wasm_internal.js", Buffer.from(loader));
      emit("mediapipe/vision_wasm_internal.wasm.gz", gzipSync(readFileSync(`${WASM}.wasm`), { level: 9 }));
    },
  };
}

const CHANGED: Record<string, string> = {
  "@sparkjsdev/spark": "Changed: its WebAssembly is stored compressed.\n",
  "@mediapipe/tasks-vision": "Changed: its WebAssembly is stored compressed; notices are logged as information.\n",
};

/** Licences of what is in the build. */
function licences(): Plugin {
  return {
    name: "licences",
    generateBundle() {
      const parts = ["three", "@sparkjsdev/spark", "fflate", "@mediapipe/tasks-vision"].map((name) => {
        const folder = `node_modules/${name}`;
        const { version, license, homepage } = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
        const file = readdirSync(folder).find((each) => /^licen[cs]e/i.test(each));
        const text = readFileSync(file ? `${folder}/${file}` : "../../LICENSE", "utf8");
        const changed = CHANGED[name] ?? "";
        return `${name} ${version} (${license ?? "see below"})${homepage ? `, ${homepage}` : ""}\n${changed}\n${text.trim()}\n`;
      });
      const source = parts.join(`\n${"-".repeat(100)}\n\n`);
      this.emitFile({ type: "asset", fileName: "THIRD_PARTY_LICENSES", source });
    },
  };
}

export default defineConfig({
  base: "./",
  plugins: [packedSpark(), clips(), mediapipe(), licences()],
  build: {
    target: "es2022",
    outDir: "dist",
    emptyOutDir: true,
    assetsDir: ".",
    modulePreload: false,
    chunkSizeWarningLimit: 2500,
    rollupOptions: {
      output: {
        entryFileNames: "viewer.js",
        chunkFileNames: "[name].js",
        assetFileNames: (asset) => (asset.names[0]?.endsWith(".css") ? "viewer.css" : "[name][extname]"),
      },
    },
  },
});
