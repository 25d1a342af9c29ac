"use strict";
(async () => {
  const main = document.getElementById("main");
  const el = (tag, attrs, ...children) => {
    const e = document.createElement(tag);
    for (const [k, v] of Object.entries(attrs || {})) e.setAttribute(k, v);
    for (const c of children) if (c !== null && c !== undefined) e.append(c);
    return e;
  };
  let doc;
  try {
    const answer = await fetch(main.dataset.document);
    if (!answer.ok) throw new Error("status " + answer.status);
    doc = await answer.json();
  } catch (e) {
    main.append(el("p", {}, "The document could not be read: " + e.message));
    return;
  }
  const resolve = s => s && s.$ref ? doc.components.schemas[s.$ref.split("/").pop()] : s;
  const typeOf = s => Array.isArray(s.type) ? s.type.find(t => t !== "null") : s.type;
  const bounds = (low, high) => low === undefined && high === undefined ? "" : `${low ?? ""}..${high ?? ""}`;
  const scalar = s => [
    s.enum ? s.enum.join(" | ") : s.format || typeOf(s) || "any",
    bounds(s.minimum, s.maximum), bounds(s.minLength, s.maxLength) && bounds(s.minLength, s.maxLength) + " characters",
    s.default === undefined ? "" : "default " + s.default, s.readOnly ? "read only" : "",
  ].filter(Boolean).join(", ");
  const typed = schema => {
    const s = resolve(schema) || {};
    return typeOf(s) === "array" ? typed(s.items) + ", repeatable" : scalar(s);
  };
  const sketch = (schema, depth) => {
    const s = resolve(schema) || {};
    const type = typeOf(s);
    if (depth > 5) return "...";
    if (type === "array") return [sketch(s.items, depth + 1)];
    if (s.properties) return Object.fromEntries(Object.entries(s.properties).map(([k, v]) => [
      k + ((s.required || []).includes(k) ? "" : "?"), sketch(v, depth + 1)]));
    return scalar(s) + (s.description ? ": " + s.description : "");
  };
  const show = schema => el("pre", {}, JSON.stringify(sketch(schema, 0), null, 2));
  main.append(el("p", {}, doc.info.description || "", " Version ", doc.info.version, ". ",
    el("a", { href: main.dataset.document }, "OpenAPI document")));
  const groups = new Map();
  for (const [path, methods] of Object.entries(doc.paths))
    for (const [method, op] of Object.entries(methods)) {
      const tag = (op.tags || ["other"])[0];
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push({ path, method, op });
    }
  for (const [tag, ops] of [...groups].sort((a, b) => a[0] < b[0] ? -1 : 1)) {
    main.append(el("h2", {}, tag));
    for (const { path, method, op } of ops) {
      const body = el("div", {}, el("p", {}, op.description || op.summary || ""));
      if ((op.parameters || []).length) body.append(el("table", {}, ...op.parameters.map(p => el("tr", {},
        el("td", {}, el("code", {}, p.name)), el("td", {}, p.in + (p.required ? ", required" : "")),
        el("td", {}, typed(p.schema)), el("td", {}, p.description || "")))));
      if (op.requestBody) body.append(el("h4", {}, "Body"), show(op.requestBody.content["application/json"].schema));
      for (const [status, r] of Object.entries(op.responses)) {
        body.append(el("h4", {}, status + " " + r.description));
        const json = (r.content || {})["application/json"];
        if (json) body.append(show(json.schema));
      }
      main.append(el("details", { id: op.operationId }, el("summary", {}, el("span", { class: "method" }, method.toUpperCase()),
        el("code", {}, path), " ", op.summary || "", el("span", { class: "role" }, op["x-eider-role"] || "no key"))), );
      main.lastElementChild.append(body);
    }
  }
})();
