/** Changes of single stages, which override the settings of all stages. */
import { changeSettings, composer } from "./composer.js";

/** The settings of all stages that a stage's guidance follows. */
const OF_ALL = { strategy: "strategy", text_weight: "textWeight", neighbor_weight: "neighborWeight", interleave_ratio: "eta" };

/** Return the changes of a stage. @returns {import("./composer.js").StageChange} */
export const changesOf = (settings, size) => settings.stages?.find((one) => one.size === size) ?? { size };

/**
 * Return the values that a stage has without changes of its own; null if only the service knows one.
 * @param {import("./model.js").Stage} stage
 */
export function inherited(settings, stage) {
  const guidance = Object.entries(stage.guidance).map(([name, value]) => [
    name,
    (stage.guided ? settings[OF_ALL[name]] : null) ?? value,
  ]);
  return {
    steps: settings.steps ?? (settings.quality === "auto" ? stage.steps : null),
    sampler: settings.sampler ?? stage.sampler,
    guidance: Object.fromEntries(guidance),
  };
}

/** Change a stage; null leaves a value to the settings of all stages. */
export function changeStage(size, change) {
  const { settings } = composer.get();
  const changed = without({ ...changesOf(settings, size), ...change });
  const others = (settings.stages ?? []).filter((one) => one.size !== size);
  const stages = [...others, ...(Object.keys(changed).length > 1 ? [changed] : [])];
  changeSettings({
    stages: stages.length > 0 ? stages.sort((one, other) => one.size - other.size) : null,
    // The service refuses both: quality is a factor of the default steps.
    ...(change.steps && { quality: "auto" }),
  });
}

/** Change the guidance of a stage; null leaves a value to the settings of all stages. */
export function changeGuidance(size, change) {
  // The service refuses them in joint guidance.
  const alone = change.strategy === "joint" ? { neighbor_weight: null, interleave_ratio: null } : {};
  const guidance = without({ ...changesOf(composer.get().settings, size).guidance, ...change, ...alone });
  changeStage(size, { guidance: Object.keys(guidance).length > 0 ? guidance : null });
}

const without = (values) => Object.fromEntries(Object.entries(values).filter(([, value]) => value !== null));
