/** Images that are dropped on the page, or pasted: one of ours restores its settings, any other becomes a neighbor. */
import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { imagesIn } from "../data/images.js";
import { notify, notifyError } from "../lib/notices.js";
import { useOwnImage } from "../model/neighbors.js";
import { restoreFrom } from "../model/restoring.js";
import { Icon } from "./ui.js";

async function take(files) {
  location.hash = "#draw";
  for (const file of files) {
    try {
      const restored = await restoreFrom(file);
      if (restored) notify(restored);
      else await useOwnImage(file);
    } catch (error) {
      notifyError(error);
    }
  }
}

export function DropZone() {
  const [isOver, setOver] = useState(false);
  useEffect(() => {
    const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
    const over = (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      setOver(true);
    };
    const leave = (event) => {
      if (event.relatedTarget === null) setOver(false);
    };
    const drop = (event) => {
      setOver(false);
      if (event.defaultPrevented || !hasFiles(event)) return;
      event.preventDefault();
      const files = imagesIn(event.dataTransfer);
      if (files.length > 0) take(files);
      else notify("Only image files can be dropped here.", "error");
    };
    const paste = (event) => {
      const files = imagesIn(event.clipboardData);
      if (files.length === 0) return;
      event.preventDefault();
      take(files);
    };
    const handled = () => setOver(false);
    const listeners = { dragover: over, dragleave: leave, drop, paste, "drop-handled": handled };
    for (const [name, listener] of Object.entries(listeners)) addEventListener(name, listener);
    return () => {
      for (const [name, listener] of Object.entries(listeners)) removeEventListener(name, listener);
    };
  }, []);
  return html`<div class="drop-hint" hidden=${!isOver} aria-hidden="true">
    <p><${Icon} name="upload" />Drop it: an image drawn here restores its settings, any other becomes a neighbor. On a
      neighbor, it takes its place.</p>
  </div>`;
}
