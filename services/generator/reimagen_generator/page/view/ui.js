/** Small parts that many views use. */
import { html, useEffect, useLayoutEffect, useRef, useState } from "../vendor/htm-preact.js";
import { useStore } from "../lib/store.js";
import { pairImagePath, readPairImage } from "../service/api.js";
import { session } from "../service/http.js";

const PATHS = {
  add: "M12 5v14M5 12h14",
  camera: "M4 8h3l2-3h6l2 3h3v11H4zM12 10a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7",
  close: "M6 6l12 12M18 6L6 18",
  database: "M4 6c0-4 16-4 16 0v12c0 4-16 4-16 0zM4 6c0 4 16 4 16 0M4 12c0 4 16 4 16 0",
  download: "M12 4v11M7 11l5 5 5-5M5 20h14",
  key: "M14 10a4 4 0 1 0-3.5 4L13 16.5h2V19h2.5v-2.5L14 13z",
  left: "M14 6l-6 6 6 6",
  refresh: "M20 11a8 8 0 1 0-2.5 6.5M20 5v6h-6",
  right: "M10 6l6 6-6 6",
  scissors: "M6 9a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM6 21a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM20 4L8.1 15.9M14.5 14.5L20 20M8.1 8.1L12 12",
  settings: "M4 7h10M18 7h2M4 17h2M10 17h10M16 5v4M8 15v4",
  swap: "M4 8h14l-3-3M20 16H6l3 3",
  theme: "M12 3a9 9 0 1 0 0 18zM12 3a9 9 0 0 1 0 18",
  upload: "M12 20V9M7 13l5-5 5 5M5 4h14",
};

/** An icon. It says nothing to screen readers: what it means is in the label of its button. */
export const Icon = ({ name }) =>
  html`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true"><path d=${PATHS[name]} /></svg>`;

/** A button with an icon alone. */
export const IconButton = ({ icon, label, ...rest }) =>
  html`<button type="button" class="icon-button" aria-label=${label} title=${label} ...${rest}>
    <${Icon} name=${icon} />
  </button>`;

/** The pairs that the operator's policy leaves out of the neighbors. Their images are not shown. */
export const Refused = ({ pairs }) =>
  pairs.map(
    ({ id, caption, reason }) => html`<p key=${id} class="hint refused">Left out: “${caption}” ${reason}.</p>`,
  );

/** Return the URL of a blob while the component is shown. @param {Blob | null | undefined} blob */
export function useBlobUrl(blob) {
  const [url, setUrl] = useState("");
  useLayoutEffect(() => {
    if (!blob) return setUrl("");
    const made = URL.createObjectURL(blob);
    setUrl(made);
    return () => URL.revokeObjectURL(made);
  }, [blob]);
  return url;
}

/** The image of a pair of the knowledge base. An `img` cannot send a key, so with one the image is read first. */
export function PairImage({ id, alt = "" }) {
  const { key } = useStore(session);
  const [blob, setBlob] = useState(/** @type {Blob | null} */ (null));
  const [isMissing, setMissing] = useState(false);
  useEffect(() => {
    setMissing(false);
    setBlob(null);
    if (!key) return;
    let current = true;
    readPairImage(id).then(
      (image) => current && setBlob(image),
      () => current && setMissing(true),
    );
    return () => {
      current = false;
    };
  }, [id, key]);
  const url = useBlobUrl(blob);
  if (isMissing) return html`<span class="missing-image">image not available</span>`;
  const source = key ? url : pairImagePath(id);
  return source && html`<img src=${source} alt=${alt} loading="lazy" onError=${() => setMissing(true)} />`;
}

/** An image of the visitor. */
export function BlobImage({ blob, alt = "", ...rest }) {
  const url = useBlobUrl(blob);
  return url && html`<img src=${url} alt=${alt} ...${rest} />`;
}

/** A dialog that is open while it is drawn. */
export function Dialog({ title, onClose, children }) {
  const element = useRef(/** @type {HTMLDialogElement | null} */ (null));
  useLayoutEffect(() => {
    element.current?.showModal();
  }, []);
  return html`<dialog
    ref=${element}
    aria-labelledby="dialog-title"
    onClose=${onClose}
    onClick=${(event) => event.target === element.current && element.current.close()}
  >
    <div class="dialog-body">
      <div class="dialog-head">
        <h2 id="dialog-title">${title}</h2>
        <${IconButton} icon="close" label="Close" onClick=${() => element.current?.close()} />
      </div>
      ${children}
    </div>
  </dialog>`;
}

/** A button that opens the choice of an image file; with `camera`, the camera of a phone. */
export function FileButton({ onFile, label, icon = "upload", camera = false, className = "quiet", hideLabel = false }) {
  const input = useRef(/** @type {HTMLInputElement | null} */ (null));
  const choose = () => {
    const file = input.current?.files?.[0];
    if (file) onFile(file);
    if (input.current) input.current.value = "";
  };
  return html`<button
      type="button"
      class=${hideLabel ? "icon-button" : className}
      aria-label=${label}
      title=${hideLabel ? label : undefined}
      onClick=${() => input.current?.click()}
    >
      <${Icon} name=${icon} />${!hideLabel && label}
    </button>
    <input ref=${input} type="file" accept="image/*" capture=${camera ? "environment" : undefined} hidden
      aria-label=${label} tabindex="-1" onChange=${choose} />`;
}

/** The source of an image: a link if it is an address. */
export const Source = ({ source }) =>
  /^https?:\/\//.test(source ?? "")
    ? html`<a href=${source} rel="noreferrer noopener" target="_blank">${new URL(source).host}</a>`
    : html`<span>${source || "unknown source"}</span>`;
