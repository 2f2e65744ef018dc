// Pages in a local folder, without a server, may not start a Worker, which the search needs.
// This class runs the worker script in a hidden frame instead. Nothing is fetched from other sites.
"use strict";

class FrameWorker extends EventTarget {
  constructor(url) {
    super();
    this.frame = document.createElement("iframe");
    this.frame.hidden = true;
    document.body.append(this.frame);
    this.loaded = this.#load(url);
  }

  postMessage(data) {
    this.loaded.then(() => {
      const message = new MessageEvent("message", { data: structuredClone(data) });
      this.frame.contentWindow.dispatchEvent(message);
    });
  }

  terminate() {
    this.frame.remove();
  }

  #receive(data) {
    const message = new MessageEvent("message", { data: structuredClone(data) });
    this.dispatchEvent(message);
    this.onmessage?.(message);
  }

  async #load(url) {
    const inside = this.frame.contentWindow;
    inside.postMessage = (data) => setTimeout(() => this.#receive(data));
    inside.importScripts = async (...urls) => {
      for (const script of urls) await this.#run(script);
    };
    await this.#run(url);
  }

  #run(url) {
    return new Promise((resolve, reject) => {
      const script = this.frame.contentDocument.createElement("script");
      script.src = new URL(url, document.baseURI).href;
      script.onload = resolve;
      script.onerror = reject;
      this.frame.contentDocument.body.append(script);
    });
  }
}

if (location.protocol === "file:") window.Worker = FrameWorker;
