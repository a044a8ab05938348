/** The page. */
import { html, render, useEffect, useState } from "./vendor/htm-preact.js";
import { loadHistory } from "./model/drawings.js";
import { loadExamples } from "./model/examples.js";
import { loadModel, model } from "./model/model.js";
import { searchSoon } from "./model/neighbors.js";
import { startWatching } from "./model/watcher.js";
import { Compose } from "./view/compose.js";
import { DropZone } from "./view/dropZone.js";
import { Header } from "./view/header.js";
import { History, Queue } from "./view/history.js";
import { Knowledge } from "./view/knowledge.js";
import { KeyDialog, Messages, ServiceDown } from "./view/messages.js";
import { Stage } from "./view/stage.js";

const viewOf = () => (location.hash === "#knowledge" ? "knowledge" : "draw");

function App() {
  const [view, setView] = useState(viewOf());
  useEffect(() => {
    const change = () => {
      setView(viewOf());
      scrollTo(0, 0);
    };
    addEventListener("hashchange", change);
    return () => removeEventListener("hashchange", change);
  }, []);
  return html`<${Header} view=${view} />
    <main id="main" tabindex="-1">
      <${ServiceDown} />
      ${view === "knowledge"
        ? html`<${Knowledge} />`
        : html`<h1 class="visually-hidden">Draw</h1>
            <div class="draw">
              <${Compose} />
              <div class="results"><${Stage} /><${Queue} /><${History} /></div>
            </div>`}
    </main>
    <${DropZone} /><${KeyDialog} /><${Messages} />`;
}

/** Begin what needs the service once it answers. */
function startWhenReady() {
  if (model.get().status !== "ready") return;
  stop();
  loadExamples();
  searchSoon(0);
}

render(html`<${App} />`, document.getElementById("app"));
const stop = model.subscribe(startWhenReady);
loadModel();
loadHistory().then(startWatching);
