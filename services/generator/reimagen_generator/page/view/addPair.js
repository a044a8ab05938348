/** The form that adds a pair to the knowledge base. */
import { html, useState } from "../vendor/htm-preact.js";
import { prepareImage } from "../data/images.js";
import { announce, notify } from "../lib/notices.js";
import { addToKnowledgeBase, searchSoon } from "../model/neighbors.js";
import { addPair } from "../service/api.js";
import { BlobImage, Dialog, FileButton } from "./ui.js";

const LICENSES = ["CC0-1.0", "CC-BY-4.0", "CC-BY-SA-4.0", "MIT", "Apache-2.0", "proprietary"];

/**
 * A dialog for a new pair: of a neighbor that is the visitor's image, or of any image.
 * @param {{own?: any, onClose: () => void, onAdded?: (id: string) => void}} props
 */
export function AddPairDialog({ own = null, onClose, onAdded }) {
  const [image, setImage] = useState(/** @type {Blob | null} */ (own?.cutOut?.image ?? own?.image ?? null));
  const [problem, setProblem] = useState("");
  const [isSending, setSending] = useState(false);

  const choose = async (file) => {
    try {
      setImage(await prepareImage(file));
      setProblem("");
    } catch (error) {
      setProblem(error.message);
    }
  };
  const submit = async (event) => {
    event.preventDefault();
    if (!image) return setProblem("Choose an image first.");
    const fields = Object.fromEntries(new FormData(event.target));
    setSending(true);
    try {
      if (own) await addToKnowledgeBase(own, fields);
      else onAdded?.(await addPair({ image, ...fields }));
      notify("The image is in the knowledge base, and the next search finds it.");
      if (!own) searchSoon(0);
      onClose();
    } catch (error) {
      setProblem(error.message);
      announce(error.message);
      setSending(false);
    }
  };

  return html`<${Dialog} title="Add to the knowledge base" onClose=${onClose}>
    <form class="stack" onSubmit=${submit}>
      <div class="add-image" onDragOver=${(event) => event.preventDefault()}
        onDrop=${(event) => {
          event.preventDefault();
          event.stopPropagation();
          dispatchEvent(new Event("drop-handled"));
          if (event.dataTransfer.files[0]) choose(event.dataTransfer.files[0]);
        }}>
        ${image ? html`<${BlobImage} blob=${image} alt="The image to add" />` : html`<p class="hint">Drop an image here, or</p>`}
        ${!own && html`<${FileButton} label=${image ? "Choose another image" : "Choose an image"} onFile=${choose} />`}
      </div>
      <label>Caption<input name="caption" required maxlength="1000" value=${own?.caption ?? ""} placeholder="a red fox" />
        <span class="hint">What the image shows. Prompts that name it find it.</span></label>
      <label>Source<input name="source" maxlength="2000" placeholder="own photograph, or an address" /></label>
      <label>License<input name="license" maxlength="2000" list="licenses" placeholder="CC-BY-4.0" /></label>
      <datalist id="licenses">${LICENSES.map((name) => html`<option value=${name} />`)}</datalist>
      <p class="hint">Everyone who uses this service can then find and draw from it. Location and camera data were removed.</p>
      ${problem && html`<p class="problem" role="alert">${problem}</p>`}
      <div class="row end"><button class="primary" disabled=${isSending}>${isSending ? "Adding…" : "Add"}</button></div>
    </form>
  <//>`;
}
