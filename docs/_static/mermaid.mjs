import "./mermaid.min.js";
export default globalThis.mermaid;
