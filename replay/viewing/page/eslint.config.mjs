import { fileURLToPath } from "node:url";
import tseslint from "typescript-eslint";

// Recorded text is untrusted: it reaches the page through textContent and the DOM only.
const markup = ["innerHTML", "outerHTML", "insertAdjacentHTML", "srcdoc", "write", "writeln"];

export default tseslint.config(
  { ignores: ["node_modules/"] },
  {
    files: ["src/**/*.ts"],
    extends: [...tseslint.configs.strictTypeChecked],
    languageOptions: {
      parserOptions: {
        project: "./tsconfig.json",
        tsconfigRootDir: fileURLToPath(new URL(".", import.meta.url)),
      },
    },
    rules: {
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-new-func": "error",
      "no-restricted-properties": [
        "error",
        ...markup.map((property) => ({ property, message: "Use textContent and the DOM." })),
      ],
      "no-restricted-globals": [
        "error",
        { name: "fetch", message: "Only server.ts loads anything." },
        { name: "EventSource", message: "Only server.ts loads anything." },
      ],
      eqeqeq: "error",
      "max-lines": ["error", 500],
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      "@typescript-eslint/no-non-null-assertion": "error",
    },
  },
  { files: ["src/server.ts", "src/happenings.ts"], rules: { "no-restricted-globals": "off" } },
);
