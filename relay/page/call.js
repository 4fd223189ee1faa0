// One call from the browser: microphone, peer connection, signalling, data channel, and what the client measures.
// Says what happens by events: `state`, `turn`, `sample`, `session`, `levels`, `ended`.

const CALLS = "/v1/realtime/calls";
const SAMPLE_MS = 1000;
const REPORT_EVERY = 5; // samples
const LISTEN_MS = 20;
const METER_SAMPLES = 2048; // 43 ms at 48 kHz: two looks overlap, so that a late timer misses nothing
const BLOCK = 128; // samples, 2.7 ms: how exactly a beginning or an end of speech is known
const ANSWER_GAP_MS = 700; // longer than the pause between two sentences of one answer
const SENTENCE_GAP_MS = 200;
const PAUSE_MS = 200; // a shorter silence does not part one speaker's speech
const PING_MS = 2000;
const FIRST_PINGS_MS = [0, 200, 400, 600, 800];
const PONGS_KEPT = 64;
const LOUD = 0.02; // root mean square, full scale 1: speech is above, a quiet room below
const REPORTED = new Set(["inbound-rtp", "outbound-rtp", "remote-inbound-rtp", "candidate-pair", "media-playout"]);

export class CallError extends Error {}

const nowNs = (at = performance.now()) => Math.round((performance.timeOrigin + at) * 1e6);

export class Call extends EventTarget {
  constructor(speaker) {
    super();
    this.speaker = speaker;
    this.connection = null;
    this.location = null;
    this.ended = false;
    this.timers = [];
  }

  async start(region, consent) {
    this.microphone = await microphone();
    if (this.ended) return stopTracks(this.microphone);
    const connection = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
    this.connection = connection;
    for (const track of this.microphone.getTracks()) connection.addTrack(track, this.microphone);
    connection.addEventListener("track", ({ streams: [stream] }) => {
      this.speaker.srcObject = stream;
      this.agentLevel = meter(this.audio, stream);
    });
    connection.addEventListener("connectionstatechange", () => this.connectionChanged());
    this.audio = new AudioContext();
    this.userLevel = meter(this.audio, this.microphone);
    this.channel = connection.createDataChannel("sidetone");
    this.channel.addEventListener("message", ({ data }) => this.told(JSON.parse(data)));
    this.channel.addEventListener("open", () => {
      for (const wait of FIRST_PINGS_MS) this.timers.push(setTimeout(() => this.ask(), wait));
    });
    await connection.setLocalDescription();
    const answer = await this.signal(region, consent, connection.localDescription.sdp);
    if (this.ended) return this.release();
    await connection.setRemoteDescription({ type: "answer", sdp: answer });
    this.timers.push(setInterval(() => this.sample(), SAMPLE_MS), setInterval(() => this.listen(), LISTEN_MS));
    this.timers.push(setInterval(() => this.ask(), PING_MS));
  }

  async signal(region, consent, offer) {
    const query = new URLSearchParams();
    if (region) query.set("region", region);
    if (consent) query.set("consent", "audio");
    let response;
    try {
      response = await fetch(`${CALLS}?${query}`, {
        method: "POST",
        headers: { "content-type": "application/sdp" },
        body: offer,
      });
    } catch {
      throw new CallError(`The relay at ${location.host} does not answer. Start it (sidetone up), then try again.`);
    }
    const text = await response.text();
    if (response.status !== 201) {
      throw new CallError(`The relay did not take the call (${response.status}): ${text.trim().slice(0, 300)}`);
    }
    this.location = response.headers.get("location");
    this.say("session", this.location.split("/").pop());
    return text;
  }

  hangUp() {
    this.end(null);
  }

  end(problem) {
    if (this.ended) return;
    this.ended = true;
    if (this.location) fetch(this.location, { method: "DELETE", keepalive: true }).catch(() => {});
    this.release();
    this.say("ended", problem);
  }

  release() {
    this.timers.forEach(clearInterval);
    stopTracks(this.microphone);
    this.connection?.close();
    this.audio?.close();
    this.speaker.srcObject = null;
  }

  connectionChanged() {
    const state = this.connection.connectionState;
    if (state === "connected") this.say("state", "listening");
    if (state === "failed") {
      this.end("The connection to the relay was lost. Its UDP port may be blocked, or the relay has stopped.");
    }
  }

  told(message) {
    if (message.type === "sidetone.turn") {
      if (message.kind === "agent_audio_started") this.answering = message.turn_id;
      this.say("turn", message);
    } else if (message.type === "sidetone.pong") {
      this.answered(message);
    }
  }

  // What time is it at the relay? Of the last answers the one with the least round trip is the least wrong.
  ask() {
    this.tell({ type: "sidetone.ping", client_ns: nowNs() });
  }

  answered({ client_ns, server_ns }) {
    const back = nowNs();
    this.pongs ??= [];
    this.pongs.push({ offset: (server_ns - (client_ns + back) / 2) / 1e6, error: (back - client_ns) / 2e6 });
    if (this.pongs.length > PONGS_KEPT) this.pongs.shift();
    const best = this.pongs.reduce((one, other) => (other.error < one.error ? other : one));
    this.clock = { clock_offset_ms: best.offset, clock_error_ms: best.error };
  }

  tell(message) {
    if (this.channel.readyState === "open") this.channel.send(JSON.stringify(message));
  }

  // What the listener hears: the two levels, and when an answer became audible here. That it is one is learnt over the
  // data channel, which may be later than the voice: its beginning is kept until then.
  listen() {
    const now = performance.now();
    const user = this.userLevel?.() ?? SILENT;
    const agent = this.agentLevel?.() ?? SILENT;
    if (user.last !== undefined) this.spokeAt = now - user.last;
    if (agent.first !== undefined) {
      const from = now - agent.first;
      if (this.voice === undefined || this.isNew(from)) this.voice = { from, spokeAt: this.spokeAt };
      this.voice.until = now - agent.last;
      if (this.answering && this.heard !== this.answering) this.playout(this.voice);
    }
    this.say("levels", { user: user.level, agent: agent.level });
  }

  // An answer is over after a long silence, or after a shorter one in which the user has spoken.
  isNew(from) {
    const silent = from - this.voice.until;
    return silent > ANSWER_GAP_MS || (silent > SENTENCE_GAP_MS && this.spokeAt > this.voice.until);
  }

  playout({ from, spokeAt }) {
    this.heard = this.answering;
    const values = { turn: this.heard, ...this.clock };
    if (spokeAt !== undefined && from - spokeAt >= PAUSE_MS) values.heard_delay_ms = from - spokeAt;
    if (this.bufferMs !== undefined) values.playout_delay_ms = this.bufferMs;
    this.tell({ type: "sidetone.playout", client_ns: nowNs(from), kind: "playout", values });
  }

  async sample() {
    const stats = [...(await this.connection.getStats()).values()];
    if (this.ended) return;
    const of = (type, test = () => true) => stats.find((one) => one.type === type && test(one));
    const pair = of("candidate-pair", (one) => one.nominated && one.state === "succeeded");
    const inbound = of("inbound-rtp", (one) => one.kind === "audio");
    const before = this.inbound ?? {};
    this.inbound = inbound ?? this.inbound;
    const emitted = (inbound?.jitterBufferEmittedCount ?? 0) - (before.jitterBufferEmittedCount ?? 0);
    if (emitted > 0) {
      this.bufferMs = (1000 * (inbound.jitterBufferDelay - (before.jitterBufferDelay ?? 0))) / emitted;
    }
    const expected = (inbound?.packetsReceived ?? 0) + (inbound?.packetsLost ?? 0);
    this.say("sample", {
      rttMs: pair?.currentRoundTripTime === undefined ? undefined : 1000 * pair.currentRoundTripTime,
      lostPercent: expected > 0 ? (100 * inbound.packetsLost) / expected : undefined,
      bufferMs: this.bufferMs,
    });
    this.samples = (this.samples ?? 0) + 1;
    if (this.samples % REPORT_EVERY === 0) this.report(stats, pair);
  }

  report(stats, pair) {
    for (const one of stats) {
      if (!REPORTED.has(one.type) || (one.type === "candidate-pair" && one !== pair)) continue;
      const values = Object.fromEntries(
        Object.entries(one).filter(([name, value]) => Number.isFinite(value) && name !== "timestamp" && name !== "ssrc"),
      );
      const client_ns = Math.round(one.timestamp * 1e6);
      this.tell({ type: "sidetone.stats", client_ns, kind: one.type, stream: one.ssrc ?? null, values });
    }
    if (this.clock) this.tell({ type: "sidetone.stats", client_ns: nowNs(), kind: "clock", stream: null, values: this.clock });
  }

  say(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

async function microphone() {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new CallError(
      "Browsers give the microphone only to pages on localhost or over HTTPS. Open this page by one of these.",
    );
  }
  try {
    return await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true },
    });
  } catch (error) {
    throw new CallError(
      {
        NotAllowedError: "The microphone is blocked. Allow it for this page in the browser’s address bar, then start again.",
        NotFoundError: "No microphone was found. Connect one, then start again.",
        NotReadableError: "The microphone is in use by another program. Close that one, then start again.",
      }[error.name] ?? `The microphone cannot be used (${error.name}: ${error.message}).`,
    );
  }
}

function stopTracks(stream) {
  for (const track of stream?.getTracks() ?? []) track.stop();
}

const SILENT = { level: 0 };

// Returns a function that looks at the last moments of a stream: its root mean square (0 to 1), and how many ms ago the
// first and the last block of it that is speech began and ended; undefined where none is.
function meter(audio, stream) {
  const analyser = audio.createAnalyser();
  analyser.fftSize = METER_SAMPLES;
  audio.createMediaStreamSource(stream).connect(analyser);
  const samples = new Float32Array(METER_SAMPLES);
  const ago = (index) => (1000 * (METER_SAMPLES - index)) / audio.sampleRate;
  return () => {
    analyser.getFloatTimeDomainData(samples);
    let total = 0;
    let first;
    let last;
    for (let start = 0; start < METER_SAMPLES; start += BLOCK) {
      let power = 0;
      for (let index = start; index < start + BLOCK; index += 1) power += samples[index] ** 2;
      total += power;
      if (Math.sqrt(power / BLOCK) > LOUD) {
        first ??= ago(start);
        last = ago(start + BLOCK);
      }
    }
    return { level: Math.sqrt(total / METER_SAMPLES), first, last };
  };
}
