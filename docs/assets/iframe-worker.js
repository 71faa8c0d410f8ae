// Search of a site that is opened from disk, where browsers start no workers: the script of the
// worker runs in a hidden frame instead. The theme asks whether this name is known.
if (location.protocol === "file:") {
  window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super();
      const waiting = [];
      this.postMessage = (data) => waiting.push(data);
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      const inside = frame.contentWindow;
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      const script = inside.document.createElement("script");
      script.src = new URL(url, location.href).href;
      script.onload = () => {
        this.postMessage = (data) =>
          inside.dispatchEvent(new inside.MessageEvent("message", { data }));
        waiting.forEach((data) => this.postMessage(data));
      };
      inside.document.body.append(script);
    }
  };
  window.Worker = window.IFrameWorker;
}
