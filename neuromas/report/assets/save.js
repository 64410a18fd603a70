// Files that the browser saves.

const KEPT_MS = 60_000;

/** Have the browser save a text as a file. */
export function saveText(text, name) {
  save(new Blob([text], { type: "text/plain" }), name);
}

/** Have the browser save a blob as a file. */
export function save(content, name) {
  const url = URL.createObjectURL(content);
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), KEPT_MS);
}
